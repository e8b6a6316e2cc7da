//! HTTP/2 as no client would speak it: paths that are none, and peers that only want to wear the broker down.

use std::time::Duration;

use leasehold::proto::v1;
use prost::Message;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::Code;

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frames, GOAWAY, HEADERS,
    RST_STREAM, SETTINGS, grpc,
};
use super::site::{AGENT, OPERATOR, Site, reason, request_id, token_request};

const QUARANTINE: &str = "/leasehold.v1.OperatorService/Quarantine";
const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

async fn frames(site: &Site, caller: Option<&str>) -> Frames<TlsStream<TcpStream>> {
    Frames::begin(site.raw(site.running.grpc, caller, "h2").await).await
}

/// Asks to quarantine the agent, in however odd a way, and waits until the server has said something about it.
async fn quarantine(site: &Site, caller: Option<&str>, path: &str) {
    let scope = format!("principal:{AGENT}");
    let reason = "odd".to_owned();
    let request =
        v1::QuarantineRequest { request_id: request_id(), scope, reason, ..Default::default() };
    let message = request.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let framed = [&[0], &length[..], message.as_slice()].concat();
    let mut frames = frames(site, caller).await;
    frames.send(HEADERS, END_HEADERS, 1, &grpc(path)).await.unwrap();
    // The server may have closed the connection already.
    let _ = frames.send(DATA, END_STREAM, 1, &framed).await;
    while let Some(frame) = frames.next().await {
        if frame.kind == GOAWAY || frame.stream == 1 {
            return;
        }
    }
}

#[tokio::test]
async fn class_14_path_without_its_first_slash_reaches_no_handler_whoever_asks() {
    let site = Site::start().await;
    let task = site.begin().await;
    let mut agent = site.credentials(AGENT);
    for path in [
        "leasehold.v1.OperatorService/Quarantine",
        "*",
        "https://localhost/leasehold.v1.OperatorService/Quarantine",
        "\\leasehold.v1.OperatorService\\Quarantine",
        "/leasehold.v1.OperatorService/Quarantine/",
        "/leasehold.v1.OperatorService/quarantine",
        "/leasehold.v1.OperatorService/Quarantine;x",
        "/leasehold.v1.OperatorService/Quarantine\t",
    ] {
        for caller in [None, Some(AGENT), Some(OPERATOR)] {
            quarantine(&site, caller, path).await;
            let issued = agent.issue_credential(token_request(&task)).await;
            assert!(issued.is_ok(), "{path:?} as {caller:?}");
        }
    }
    for caller in [None, Some(AGENT)] {
        quarantine(&site, caller, QUARANTINE).await;
        assert!(agent.issue_credential(token_request(&task)).await.is_ok(), "{caller:?}");
    }
    // The same bytes with the path as it is, from an operator, are heard.
    quarantine(&site, Some(OPERATOR), QUARANTINE).await;
    let refused = agent.issue_credential(token_request(&task)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "QUARANTINED")
    );
}

#[tokio::test]
async fn class_15_peer_that_opens_and_resets_streams_is_told_to_go() {
    let site = Site::start().await;
    let mut frames = frames(&site, None).await;
    let headers = grpc(CHECK);
    for stream in (1..2_000).step_by(2) {
        // All at once, as far as the server lets us.
        let opened = frames.send(HEADERS, END_HEADERS, stream, &headers).await;
        if opened.is_err()
            || frames.send(RST_STREAM, 0, stream, &8_u32.to_be_bytes()).await.is_err()
        {
            break;
        }
    }
    let goaway = frames.next_of(GOAWAY).await.unwrap();
    assert_eq!(goaway.payload[4..8], ENHANCE_YOUR_CALM.to_be_bytes());
}

#[tokio::test]
async fn class_15_headers_without_end_are_not_collected() {
    let site = Site::start().await;
    let mut frames = frames(&site, None).await;
    frames.send(HEADERS, 0, 1, &grpc(CHECK)).await.unwrap();
    let filler = "x".repeat(100);
    let more = super::frames::fields(&[("x-filler", filler.as_str()); 100]);
    for _ in 0..50 {
        if frames.send(CONTINUATION, 0, 1, &more).await.is_err() {
            break;
        }
    }
    // With a word about it or without; and not only since it stopped answering, which takes 40 s.
    let over = tokio::time::timeout(Duration::from_secs(20), frames.next_of(GOAWAY)).await;
    assert!(over.is_ok(), "the headers are collected");
}

#[tokio::test]
async fn class_15_no_more_is_taken_ahead_than_one_message_needs() {
    let site = Site::start().await;
    let mut frames = frames(&site, None).await;
    let settings = frames.next_of(SETTINGS).await.unwrap();
    let setting = |id: u16| {
        let of = |setting: &&[u8]| setting[..2] == id.to_be_bytes();
        let found = settings.payload.chunks(6).find(of).unwrap();
        u32::from_be_bytes(found[2..].try_into().unwrap())
    };
    let (streams, window, headers) = (setting(3), setting(4), setting(6));
    assert_eq!((streams, window, headers), (256, 64 * 1024, 16 * 1024));
}

#[tokio::test]
async fn class_15_question_about_health_is_short_and_comes_in_time() {
    let site = Site::start().await;
    let mut frames = frames(&site, None).await;
    // A message of a megabyte is announced and does not come: it need not be waited for.
    frames.send(HEADERS, END_HEADERS, 1, &grpc(CHECK)).await.unwrap();
    frames.send(DATA, 0, 1, &[0, 0, 16, 0, 0]).await.unwrap();
    let began = tokio::time::Instant::now();
    let answer = frames.next_of(HEADERS).await.unwrap();
    assert_eq!(answer.stream, 1);
    assert!(began.elapsed() < Duration::from_secs(5), "only the deadline ended it");
    // One whose message never comes ends with the deadline.
    let timeout = super::frames::fields(&[("grpc-timeout", "20m")]);
    let headers = [grpc(CHECK), timeout].concat();
    frames.send(HEADERS, END_HEADERS, 3, &headers).await.unwrap();
    let answer = frames.next_of(HEADERS).await.unwrap();
    assert_eq!(answer.stream, 3);
}

#[tokio::test]
async fn class_15_those_who_watch_health_are_bounded_and_those_who_ask_once_are_not() {
    let site = Site::start_with("limits = {", "limits = { requests_in_flight = 2,").await;
    let mut frames = frames(&site, None).await;
    let mut ask = async |stream: u32, path: &str| {
        frames.send(HEADERS, END_HEADERS, stream, &grpc(path)).await.unwrap();
        frames.send(DATA, END_STREAM, stream, &[0; 5]).await.unwrap();
        loop {
            let frame = frames.next().await.unwrap();
            // An answer goes on with a message, a refusal ends with its headers.
            if frame.stream == stream && frame.kind == HEADERS {
                return frame.ends_stream;
            }
        }
    };
    assert!(!ask(1, WATCH).await && !ask(3, WATCH).await);
    assert!(ask(5, WATCH).await, "one too many");
    assert!(!ask(7, CHECK).await);
}
