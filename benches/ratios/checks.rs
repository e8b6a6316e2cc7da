//! A verifier's check, cold and warm, beside one bare verification of the same signature. A real broker's tokens and keys, and
//! a verifier that follows its feed.
//!
//! Cold: every token is shown for the first time, as far as the verifier remembers. Warm: it was shown before. Both are the
//! whole call, clocks and the admission's end included. Rounds of the three take turns, and the medians are compared.

use std::hint::black_box;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use leasehold::playground::{AUDIENCE, Workload};
use leasehold::proto::v1::GetTrustBundleRequest;
use leasehold::proto::v1::verification_service_client::VerificationServiceClient;
use leasehold::verifier::{Rules, Verifier};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::Value;
use tokio::time::Instant;

use crate::report::{Report, Times};
use crate::verifiers::Verifiers;
use crate::world::World;
use crate::{Outcome, Scale};

/// Tokens of a round; more than a verifier remembers that is told to remember as few as it can.
const TOKENS: usize = 200;
/// What the checks should take at most.
const AIM_COLD: f64 = 1.1;
const AIM_WARM_NANOS: f64 = 500.0;

/// A key as ring takes it, and what it signed.
struct Bare {
    key: UnparsedPublicKey<Vec<u8>>,
    signed: Vec<(String, Vec<u8>)>,
}

pub(crate) async fn measure(scale: Scale, report: &mut Report) -> Outcome<()> {
    let world = World::start(None).await?;
    let mut forgetful = Rules::new(AUDIENCE);
    forgetful.known = 0;
    let cold = Verifiers::with_rules(&world, 1, &forgetful).await?;
    let warm = Verifiers::start(&world, 1).await?;
    let mut agent = world.callers(1).await?.pop().ok_or("no agent")?;
    let mut tokens = Vec::with_capacity(TOKENS);
    for _ in 0..TOKENS {
        tokens.push(agent.issue().await?);
    }
    let bare = Bare::of(&world, &tokens).await?;
    let mut took = [Times::default(), Times::default(), Times::default()];
    for _ in 0..scale.checks {
        let [verified, first, again] = &mut took;
        round(verified, || bare.verify())?;
        round(first, || check(cold.first()?, &cold, &tokens))?;
        // Whoever was shown them all keeps them.
        check(warm.first()?, &warm, &tokens)?;
        round(again, || check(warm.first()?, &warm, &tokens))?;
    }
    let [verified, first, again] = took.map(|times| times.p50());
    report.begin_part(
        "Checks by the verifier library, of tokens that are bound to a client certificate",
    );
    let nanos = |time: std::time::Duration| time.as_secs_f64() * 1e9;
    report.value("bare ES256 verification", nanos(verified), "ns", None);
    report.value("cold check", nanos(first), "ns", None);
    report.ratio("cold check, by a bare verification", first, verified, Some(AIM_COLD));
    report.value("warm check", nanos(again), "ns", Some(AIM_WARM_NANOS));
    report.gap();
    world.end().await;
    Ok(())
}

/// How long one of a round's took.
fn round(times: &mut Times, all: impl FnOnce() -> Outcome<()>) -> Outcome<()> {
    let began = Instant::now();
    all()?;
    times.add(began.elapsed() / u32::try_from(TOKENS)?);
    Ok(())
}

fn check(verifier: &Verifier, shown_to: &Verifiers, tokens: &[String]) -> Outcome<()> {
    for token in tokens {
        drop(black_box(verifier.check(black_box(&shown_to.shown(token)))?));
    }
    Ok(())
}

impl Bare {
    async fn of(world: &World, tokens: &[String]) -> Outcome<Self> {
        let channel = world.connect(Workload::Documents, world.address()).await?;
        let mut client = VerificationServiceClient::new(channel);
        let bundle = client.get_trust_bundle(GetTrustBundleRequest {}).await?.into_inner();
        let keys: Value = serde_json::from_str(&bundle.access_token_jwks)?;
        let signed = tokens.iter().map(|token| {
            let (signed, signature) = token.rsplit_once('.').ok_or("no signature")?;
            Ok((signed.to_owned(), URL_SAFE_NO_PAD.decode(signature)?))
        });
        let signed: Vec<_> = signed.collect::<Outcome<_>>()?;
        let (first, signature) = signed.first().ok_or("no token")?;
        // The one of the published keys that signs now.
        let keys = keys.get("keys").and_then(Value::as_array).ok_or("no keys")?;
        let points = keys.iter().map(point).collect::<Outcome<Vec<_>>>()?;
        let keys = points.into_iter().map(|p| UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, p));
        let mut signing = keys.filter(|key| key.verify(first.as_bytes(), signature).is_ok());
        let key = signing.next().ok_or("none of the published keys signed")?;
        Ok(Self { key, signed })
    }

    fn verify(&self) -> Outcome<()> {
        for (signed, signature) in &self.signed {
            let verified = self.key.verify(black_box(signed.as_bytes()), black_box(signature));
            verified.map_err(|_| "the signature does not verify")?;
        }
        Ok(())
    }
}

/// Of a JWK, uncompressed.
fn point(jwk: &Value) -> Outcome<Vec<u8>> {
    let mut point = vec![4];
    for name in ["x", "y"] {
        let coordinate = jwk.get(name).and_then(Value::as_str).ok_or("no point")?;
        point.extend(URL_SAFE_NO_PAD.decode(coordinate)?);
    }
    Ok(point)
}
