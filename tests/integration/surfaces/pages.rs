//! Lists that are longer than one message may be: a client with the default limit of 4 MiB gets all of them, page by page.

use std::collections::BTreeSet;

use leasehold::proto::v1;
use leasehold::testing::ca::csr;
use prost::Message;
use rcgen::KeyPair;

use super::site::{AGENT, ORCHESTRATOR, Site, request_id, token_request};

/// What tonic, grpc-go, grpcio and grpc-js take by default.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// Where a page is full, and the largest task on top.
const PAGE_BYTES: usize = 1024 * 1024 + 32 * 1024;

/// A grant for the audience of the site with so many actions of 100 bytes; 150 make the largest grant that there is.
fn grant(actions: usize) -> String {
    let actions: Vec<String> = (0..actions).map(|n| format!("\"{n:0100}\"")).collect();
    let actions = actions.join(",");
    format!(
        r#"[{{"type":"resource_access","audience":"https://ledger.example","actions":[{actions}]}}]"#
    )
}

#[tokio::test]
async fn tasks_of_more_than_four_mebibytes_come_in_shorter_pages() {
    let site = Site::start().await;
    let mut begun = BTreeSet::new();
    for _ in 0..240 {
        let task = site.begin_with(|request| {
            request.authorization_details = grant(150);
            request.checkpoint = vec![7; 4_096];
        });
        begun.insert(task.await.task_id);
    }
    let mut client = site.tasks(ORCHESTRATOR);
    let (mut listed, mut bytes, mut page_token) = (BTreeSet::new(), 0, String::new());
    loop {
        let request = v1::ListTasksRequest { page_size: 1_000, page_token, state: 0 };
        let page = client.list_tasks(request).await.unwrap().into_inner();
        assert!(page.encoded_len() <= PAGE_BYTES);
        bytes += page.encoded_len();
        for task in page.tasks {
            assert!(listed.insert(task.task_id), "a task is listed twice");
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert!(bytes > MOST_BYTES, "one page would have done");
    assert_eq!(listed, begun);
}

#[tokio::test]
async fn leases_come_in_shorter_pages_too() {
    let site = Site::start().await;
    // Much more does not fit into a token.
    let task = site.begin_with(|request| request.authorization_details = grant(28)).await;
    let mut agent = site.credentials(AGENT);
    let csr_der = csr(&KeyPair::generate().unwrap()).der().to_vec();
    let mut issued = BTreeSet::new();
    for _ in 0..400 {
        let svid = v1::X509SvidRequest { csr_der: csr_der.clone() };
        let request = v1::IssueCredentialRequest {
            request_id: request_id(),
            credential: Some(v1::issue_credential_request::Credential::X509Svid(svid)),
            ..token_request(&task)
        };
        let answer = agent.issue_credential(request).await.unwrap().into_inner();
        issued.insert(answer.lease.unwrap().lease_id);
    }
    let (mut listed, mut bytes, mut page_token) = (BTreeSet::new(), 0, String::new());
    loop {
        let task_id = task.task_id.clone();
        let request = v1::ListLeasesRequest { task_id, page_size: 1_000, page_token };
        let page = agent.list_leases(request).await.unwrap().into_inner();
        assert!(page.encoded_len() <= PAGE_BYTES);
        bytes += page.encoded_len();
        for lease in page.leases {
            assert!(listed.insert(lease.lease_id), "a lease is listed twice");
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert!(bytes > PAGE_BYTES, "one page would have done");
    assert_eq!(listed, issued);
}
