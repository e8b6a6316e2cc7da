//! SVIDs come, change, break and go; who connects is shown the last good one.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};
use tonic::Code;

use super::*;
use crate::listen::certificate::tests::{connect, must_show};
use crate::testing::ca::{Defect, Issued, TestAuthority};
use crate::testing::clock::TestClock;
use crate::testing::entropy::SeededEntropy;
use crate::testing::workload_api::{Answer, FakeAgent};
use crate::workload_api::REFRESH;

const BROKER: &str = "spiffe://prod.example/broker";
const OTHER: &str = "spiffe://prod.example/other";

struct Site {
    agent: FakeAgent,
    root: TestAuthority,
    clock: Arc<TestClock>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Site {
    fn new() -> Self {
        Self {
            agent: FakeAgent::start(),
            root: TestAuthority::root("root"),
            clock: Arc::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    fn svid(&self, id: &str) -> Issued {
        self.root.svid_for_localhost(id)
    }

    fn source(&self, spiffe_id: Option<&str>) -> SvidSource {
        SvidSource {
            api: self.agent.api(),
            spiffe_id: spiffe_id.map(|id| SpiffeId::parse(id).unwrap()),
            clock: self.clock.clone(),
            entropy: Arc::new(SeededEntropy::new(1)),
        }
    }

    async fn follow(&self, spiffe_id: Option<&str>) -> Result<Arc<ServerCertificate>, NoFirstSvid> {
        self.source(spiffe_id).follow(&self.tasks, &self.stop).await
    }

    async fn comes_to_show(&self, certificate: &ServerCertificate, issued: &Issued) {
        for _ in 0..10_000 {
            if shown(certificate).as_ref() == issued.chain.first() {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("another certificate is shown");
    }
}

fn shown(certificate: &ServerCertificate) -> Option<rustls::pki_types::CertificateDer<'static>> {
    certificate.current.load().as_ref()?.leaf().cloned()
}

#[tokio::test(start_paused = true)]
async fn an_svid_that_is_renewed_is_shown_to_whoever_connects_next_and_open_connections_go_on() {
    let site = Site::new();
    let (former, next) = (site.svid(BROKER), site.svid(BROKER));
    site.agent.svids(&[(BROKER, &former)]);
    let certificate = site.follow(None).await.unwrap();
    must_show(&site.root, &certificate, &former).await;
    let (mut client, mut server) = connect(&site.root, &certificate).await;
    site.agent.svids(&[(BROKER, &next)]);
    site.comes_to_show(&certificate, &next).await;
    must_show(&site.root, &certificate, &next).await;
    client.write_all(b"still here").await.unwrap();
    let mut heard = [0; 10];
    server.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"still here");
}

#[tokio::test(start_paused = true)]
async fn of_several_svids_the_first_is_shown_or_the_one_that_is_named() {
    let site = Site::new();
    let (other, broker) = (site.svid(OTHER), site.svid(BROKER));
    site.agent.svids(&[(OTHER, &other), (BROKER, &broker)]);
    let first = site.follow(None).await.unwrap();
    must_show(&site.root, &first, &other).await;
    let named = site.follow(Some(BROKER)).await.unwrap();
    must_show(&site.root, &named, &broker).await;
    site.agent.svids(&[(OTHER, &other)]);
    sleep(Duration::from_secs(5)).await;
    must_show(&site.root, &named, &broker).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_shown_leaves_the_former_one() {
    let site = Site::new();
    let good = site.svid(BROKER);
    site.agent.svids(&[(BROKER, &good)]);
    let certificate = site.follow(None).await.unwrap();
    let (mut mixed, mut cut) = (site.svid(BROKER), site.svid(BROKER));
    mixed.key = site.svid(BROKER).key;
    cut.chain.push(b"garbage".as_slice().into());
    let empty = Issued { chain: Vec::new(), key: site.svid(BROKER).key };
    let other = site.svid(OTHER);
    let authority =
        site.root.defective(Defect::CertificateAuthority, "prod.example", site.clock.now());
    let defective = "spiffe://prod.example/defective";
    for bad in [
        &[(BROKER, &mixed)],
        &[(BROKER, &cut)],
        &[(BROKER, &empty)],
        &[(BROKER, &other)],
        &[(defective, &authority)],
    ] {
        site.agent.svids(bad);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(shown(&certificate).as_ref(), good.chain.first());
    }
    site.agent.svids(&[]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(shown(&certificate).as_ref(), good.chain.first());
    let next = site.svid(BROKER);
    site.agent.svids(&[(BROKER, &next)]);
    site.comes_to_show(&certificate, &next).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_goes_away_or_knows_us_no_more_leaves_the_certificate_until_it_returns() {
    let mut site = Site::new();
    let (former, next) = (site.svid(BROKER), site.svid(BROKER));
    site.agent.svids(&[(BROKER, &former)]);
    let certificate = site.follow(None).await.unwrap();
    site.agent.svids_answer(Answer::Ends(Code::PermissionDenied));
    sleep(REFRESH.times(2).to_std()).await;
    must_show(&site.root, &certificate, &former).await;
    site.agent.go_away();
    sleep(REFRESH.times(2).to_std()).await;
    must_show(&site.root, &certificate, &former).await;
    site.agent.svids(&[(BROKER, &next)]);
    site.agent.go_on();
    site.comes_to_show(&certificate, &next).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_first_svid_the_start_fails_after_half_a_minute_and_says_why() {
    let mut site = Site::new();
    let fault = async |site: &Site, spiffe_id: Option<&str>| {
        let began = Instant::now();
        let refusal = site.follow(spiffe_id).await.unwrap_err();
        assert!(began.elapsed() >= FIRST_SVID && began.elapsed() < FIRST_SVID * 2);
        let begin = format!(
            "no certificate of this broker from the Workload API at `{}`: ",
            site.agent.endpoint()
        );
        refusal.to_string().strip_prefix(&begin).unwrap().to_owned()
    };
    site.agent.svids_answer(Answer::Ends(Code::PermissionDenied));
    assert_eq!(
        fault(&site, None).await,
        "it gives this process no SVID; register the broker with it"
    );
    site.agent.svids_answer(Answer::Ends(Code::Unimplemented));
    assert_eq!(fault(&site, None).await, "it has no X.509-SVIDs");
    site.agent.svids(&[(OTHER, &site.svid(OTHER))]);
    let text = format!(
        "there is no SVID for `{BROKER}`; register this process for it, or ask for another"
    );
    assert_eq!(fault(&site, Some(BROKER)).await, text);
    site.agent.go_away();
    let text = "it does not answer: No such file or directory (os error 2)";
    assert_eq!(fault(&site, None).await, text);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_finds_the_question_wrong_ends_the_start_at_once() {
    let site = Site::new();
    site.agent.svids_answer(Answer::Ends(Code::InvalidArgument));
    let began = Instant::now();
    let refusal = site.follow(None).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(refusal.fault, "it does not answer: as the test wants");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_comes_late_is_waited_for_and_following_ends_with_the_broker() {
    let site = Site::new();
    let (svid, source) = (site.svid(BROKER), site.source(None));
    let Site { mut agent, root, tasks, stop, .. } = site;
    agent.svids(&[(BROKER, &svid)]);
    agent.go_away();
    let late = async {
        sleep(Duration::from_secs(10)).await;
        agent.go_on();
    };
    let (certificate, ()) = tokio::join!(source.follow(&tasks, &stop), late);
    must_show(&root, &certificate.unwrap(), &svid).await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}
