//! What ends a watch, where the connection is the test's.

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::broker::Broker;
use crate::broker::seams::Clock;
use crate::domain::time::Span;
use crate::grpc::convert::task as convert;
use crate::grpc::{self, CallLimits};
use crate::identity::authn::Authenticator;
use crate::identity::oidc::OidcVerifier;
use crate::identity::peer::PeerSvid;
use crate::listen::connections::PeerInfo;
use crate::proto::v1;
use crate::proto::v1::task_service_client::TaskServiceClient;
use crate::testing::ca::TestAuthority;
use crate::testing::trust::{jwt_svids, trusting};
use crate::testing::world::{CI, FINANCE, World};

const GRANT: &str =
    r#"[{"type":"resource_access","audience":"https://ledger.example","actions":["read"]}]"#;

/// The router of a broker, as a connection of [`CI`] sees it.
async fn router(world: &World, broker: Arc<Broker>, closing: CancellationToken) -> Router {
    let root = TestAuthority::root("root");
    let now = world.clock.now();
    let issued = root.svid(CI, now, now.plus(Span::from_seconds(60)));
    let bundles = trusting(&[("prod.example", &[&root])]).shared();
    let oidc = OidcVerifier::new(vec![], &[], 0).unwrap();
    let authenticator = Arc::new(Authenticator::new(bundles, jwt_svids(), oidc));
    let limits = CallLimits::default();
    let (router, _) = grpc::router(broker, authenticator, limits, false).await.unwrap();
    let svid = Some(Arc::new(PeerSvid::new(issued.chain)));
    router.layer(Extension(PeerInfo { address: ([127, 0, 0, 1], 1).into(), svid, closing }))
}

#[tokio::test]
async fn a_watch_ends_when_its_connection_is_old_and_says_to_connect_again() {
    let (world, closing) = (World::on_model().await, CancellationToken::new());
    let broker = Arc::new(world.broker());
    let spec = convert::begin(v1::BeginTaskRequest {
        agent: FINANCE.into(),
        authorization_details: GRANT.into(),
        tier: "standard".into(),
        duration: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..Default::default()
    });
    let begun = broker.begin(&world.caller(CI), &world.id(), spec.unwrap()).await.unwrap();
    let router = router(&world, broker, closing.clone()).await;
    let origin = "https://localhost".parse().unwrap();
    let mut tasks = TaskServiceClient::with_origin(router, origin);
    let watch = v1::WatchTaskRequest { task_id: begun.task.id.to_string() };
    let mut told = tasks.watch_task(watch).await.unwrap().into_inner();
    assert!(told.message().await.unwrap().is_some());
    closing.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(20), told.message()).await;
    let ended = ended.expect("nothing came").unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
    assert!(ended.message().contains("connect again"), "{ended}");
}
