//! Whatever else a request or a connection says about its caller: only its proof counts, and counts anew in every call.

use leasehold::proto::v1;
use leasehold::proto::v1::operator_service_client::OperatorServiceClient;
use tonic::{Code, Request, Status};

use super::site::{AGENT, OPERATOR, Site, reason, request_id, token_request};

/// What proxies say about those behind them, and what a caller may say as well as they.
const HEADERS: [(&str, &str); 8] = [
    (
        "x-forwarded-client-cert",
        "By=spiffe://prod.example/api/x;Hash=00;URI=spiffe://prod.example/people/op",
    ),
    ("x-ssl-client-s-dn", "URI=spiffe://prod.example/people/op"),
    ("x-spiffe-id", OPERATOR),
    ("x-forwarded-user", OPERATOR),
    ("x-remote-user", OPERATOR),
    ("x-forwarded-for", "127.0.0.1"),
    ("x-real-ip", "127.0.0.1"),
    ("forwarded", "for=127.0.0.1;by=127.0.0.1"),
];

#[tokio::test]
async fn class_18_headers_of_proxies_say_nothing_about_who_calls() {
    let site = Site::start().await;
    for (spiffe_id, code, expected) in [
        (None, Code::Unauthenticated, "IDENTITY_UNVERIFIED"),
        (Some(AGENT), Code::PermissionDenied, "ROLE_MISSING"),
    ] {
        let channel = site.channel(spiffe_id);
        let add = |mut request: Request<()>| -> Result<_, Status> {
            for (name, value) in HEADERS {
                request.metadata_mut().append(name, value.parse().unwrap());
            }
            Ok(request)
        };
        let mut client = OperatorServiceClient::with_interceptor(channel, add);
        let refused = client.get_status(v1::GetStatusRequest {}).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (code, expected));
    }
}

#[tokio::test]
async fn class_09_agent_that_is_quarantined_on_an_open_connection_gets_nothing_from_then_on() {
    let site = Site::start().await;
    let task = site.begin().await;
    let mut agent = site.credentials(AGENT);
    let issued = agent.issue_credential(token_request(&task)).await.unwrap().into_inner();
    let quarantine = v1::QuarantineRequest {
        request_id: request_id(),
        scope: format!("principal:{AGENT}"),
        reason: String::new(),
        ..Default::default()
    };
    let mut operator = OperatorServiceClient::new(site.channel(Some(OPERATOR)));
    operator.quarantine(quarantine).await.unwrap();
    let renewal = v1::RenewCredentialRequest {
        request_id: request_id(),
        lease_id: issued.lease.unwrap().lease_id,
        ..Default::default()
    };
    let refusals = [
        agent.issue_credential(token_request(&task)).await.unwrap_err(),
        agent.renew_credential(renewal).await.unwrap_err(),
    ];
    for refused in refusals {
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::FailedPrecondition, "QUARANTINED")
        );
    }
}
