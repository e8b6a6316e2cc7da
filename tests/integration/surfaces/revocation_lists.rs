//! Revocation lists as anybody fetches them.

use leasehold::domain::time::Span;
use leasehold::proto::v1;
use leasehold::spiffe::bundle::Bundle;
use leasehold::testing::ca::csr;
use rcgen::KeyPair;
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::http::Http;
use super::site::{AGENT, ORCHESTRATOR, Site, request_id, token_request};

/// A broker whose certificates live for 20 minutes.
async fn site() -> Site {
    Site::start_with(r#"standard = { ttl = "5m""#, r#"standard = { ttl = "20m""#).await
}

/// The serial number of a new certificate of the task, and the path of the list that it names.
async fn certify(site: &Site, task: &v1::Task) -> (Vec<u8>, String) {
    let csr_der = csr(&KeyPair::generate().unwrap()).der().to_vec();
    let svid = v1::X509SvidRequest { csr_der };
    let request = v1::IssueCredentialRequest {
        credential: Some(v1::issue_credential_request::Credential::X509Svid(svid)),
        ..token_request(task)
    };
    let issued = site.credentials(AGENT).issue_credential(request).await.unwrap().into_inner();
    let leaf = issued.credential.unwrap().certificate_chain_der[0].clone();
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    let points =
        leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::CRLDistributionPoints(points) => Some(points),
            _ => None,
        });
    let [point] = &points.unwrap().points[..] else { panic!("one point") };
    let Some(DistributionPointName::FullName(names)) = &point.distribution_point else {
        panic!("a full name")
    };
    let [GeneralName::URI(url)] = names[..] else { panic!("one URI") };
    let path = url.strip_prefix("https://localhost:7701").unwrap();
    (leaf.raw_serial().to_vec(), path.to_owned())
}

fn serials(list: &[u8]) -> Vec<Vec<u8>> {
    let (_, list) = CertificateRevocationList::from_der(list).unwrap();
    list.iter_revoked_certificates().map(|revoked| revoked.raw_serial().to_vec()).collect()
}

#[tokio::test]
async fn class_16_a_long_certificate_names_a_list_that_anybody_gets_and_that_tells_of_its_end() {
    let site = site().await;
    let http = Http::of(&site, None);
    let task = site.begin().await;
    let (serial, path) = certify(&site, &task).await;
    let living = http.fetch(&path, None).await;
    assert_eq!(living.status(), 200);
    assert_eq!(living.headers()["content-type"], "application/pkix-crl");
    assert_eq!(living.headers()["cache-control"], "no-cache");
    let tag = living.headers()["etag"].to_str().unwrap().to_owned();
    assert!(serials(&living.bytes().await.unwrap()).is_empty());
    let known = http.fetch(&path, Some(&tag)).await;
    assert_eq!(known.status(), 304);
    assert_eq!(known.headers()["etag"], &*tag);
    let complete = v1::CompleteTaskRequest {
        request_id: request_id(),
        task_id: task.task_id.clone(),
        ..Default::default()
    };
    site.tasks(ORCHESTRATOR).complete_task(complete).await.unwrap();
    site.clock.forward(Span::from_seconds(11));
    let after = http.fetch(&path, Some(&tag)).await;
    assert_eq!(after.status(), 200, "the former list is known no more");
    assert_ne!(after.headers()["etag"], &*tag);
    assert_eq!(serials(&after.bytes().await.unwrap()), [serial]);
    let (_, numbers) = http.get("/metrics").await;
    assert!(
        numbers.contains("leasehold_calls_total{call=\"/crl/{file}\",code=\"200\"}"),
        "{numbers}"
    );
}

#[tokio::test]
async fn class_16_a_list_of_no_authority_of_ours_is_not_found() {
    let site = site().await;
    let http = Http::of(&site, None);
    let task = site.begin().await;
    let (_, path) = certify(&site, &task).await;
    let upper = path.replace("/crl/", "").to_uppercase();
    for other in [
        "/crl",
        "/crl/",
        "/crl/.crl",
        "/crl/00.crl",
        &path[..path.len() - 4],
        &format!("{path}/"),
        &format!("{path}.crl"),
        &format!("/crl/{upper}"),
        "/crl/..%2f..%2fhealthz",
        "/crl/%00.crl",
    ] {
        assert_eq!(http.get(other).await.0, 404, "{other}");
    }
    assert_eq!(http.fetch(&path, None).await.status(), 200);
}

#[tokio::test]
async fn class_16_the_list_of_the_root_is_fetched_like_the_others() {
    let site = site().await;
    let http = Http::of(&site, None);
    let bundle = Bundle::parse(http.get("/spiffe/bundle.json").await.1.as_bytes()).unwrap();
    let key_id = bundle.authorities()[0].subject_key_id().unwrap();
    let list = http.fetch(&format!("/crl/{key_id}.crl"), None).await;
    assert_eq!(list.status(), 200);
    assert_eq!(list.headers()["content-type"], "application/pkix-crl");
    assert!(serials(&list.bytes().await.unwrap()).is_empty());
}
