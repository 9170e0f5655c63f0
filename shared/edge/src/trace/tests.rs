use std::net::UdpSocket;

use espalier_domain::work::WorkItem;
use lambda_runtime::tracing::subscriber::Layer as _;
use serde_json::{Value, json};
use tracing::Instrument as _;
use tracing::subscriber::DefaultGuard;

use super::*;
use crate::Request as _;

const ROOT: &str = "Root=1-581cf771-a006649127e371903a2de979";

/// What the daemon got while tracing was on.
struct Listening {
    socket: UdpSocket,
    _guard: DefaultGuard,
}

impl Listening {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        // On loopback a datagram is there when it was sent.
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let daemon = daemon(&Env::of([(SWITCH, "true"), (DAEMON, &address)])).unwrap();
        let spans = layer(provider(daemon).tracer("test")).with_filter(filter_fn(is_traced));
        let guard = Registry::default().with(spans).set_default();
        Self { socket, _guard: guard }
    }

    fn document(&self) -> Option<Value> {
        let mut datagram = vec![0; 65_536];
        let length = self.socket.recv(&mut datagram).ok()?;
        let text = std::str::from_utf8(&datagram[..length]).unwrap();
        let (header, document) = text.split_once('\n').unwrap();
        assert_eq!(serde_json::from_str::<Value>(header).unwrap(), json!({"format": "json", "version": 1}));
        Some(serde_json::from_str(document).unwrap())
    }
}

fn context(header: Option<&str>) -> Context {
    let mut context = Context::default();
    context.request_id = "r-1".into();
    context.xray_trace_id = header.map(str::to_owned);
    context
}

fn sampled_context() -> Context {
    context(Some(&format!("{ROOT};Parent=53995c3f42cd8ad8;Sampled=1;Lineage=1:a:0")))
}

#[tokio::test]
async fn an_invocation_is_one_document_with_what_was_inside_it() {
    let listening = Listening::start();
    let item = json!({"kind": "mint", "stack": "pay", "scope": "shared", "generation": 3, "because": "it is time"});
    let span = invocation("mint", &sampled_context());
    async {
        about(&span, &WorkItem::parse(item).unwrap().subject());
        let call = tracing::debug_span!(
            target: "aws_sdk_ssm::operation::get_parameter", "SSM.GetParameter",
            "rpc.service" = "SSM", "rpc.method" = "GetParameter", sdk_invocation_id = 7
        );
        async { tracing::error!(target: "espalier_mint", "an event is no span") }.instrument(call).await;
        tracing::trace_span!("shut").in_scope(|| {
            tracing::trace_span!("inner", target = "i-1", key = "-----BEGIN PRIVATE KEY-----").in_scope(|| {});
        });
        tracing::trace_span!(target: "hyper::client", "noise").in_scope(|| {});
    }
    .instrument(span.clone())
    .await;
    ended::<()>(&span, &Err(EdgeError::busy("a long story")));
    drop(span);

    let document = listening.document().unwrap();
    assert_eq!(document["trace_id"], "1-581cf771-a006649127e371903a2de979");
    assert_eq!(document["parent_id"], "53995c3f42cd8ad8");
    assert_eq!((&document["type"], &document["name"]), (&json!("subsegment"), &json!("mint")));
    assert_eq!(document["annotations"], json!({"stack": "pay", "generation": 3}));
    assert_eq!(document["metadata"], json!({"espalier": {"kind": "mint", "request": "r-1", "word": "Busy"}}));
    assert_eq!(document["fault"], true);
    assert!(document["end_time"].as_f64().unwrap() >= document["start_time"].as_f64().unwrap());
    let inside = document["subsegments"].as_array().unwrap();
    assert_eq!(inside.len(), 2, "{document:#}");
    assert_eq!(inside[0]["name"], "SSM");
    assert_eq!(inside[0]["namespace"], "aws");
    assert_eq!(inside[0]["aws"], json!({"operation": "GetParameter"}));
    assert!(inside[0]["fault"].is_null(), "what is logged as an error is not the call's");
    assert_eq!((&inside[1]["name"], &inside[1]["subsegments"][0]["name"]), (&json!("shut"), &json!("inner")));
    assert_eq!(inside[1]["subsegments"][0]["metadata"], json!({"espalier": {"target": "i-1"}}));
    let text = document.to_string();
    for unlisted in ["PRIVATE", "sdk_invocation_id", "a long story", "an event", "noise", "code."] {
        assert!(!text.contains(unlisted), "{unlisted} is in {text}");
    }
    assert_eq!(listening.document(), None);
}

#[test]
fn what_lambda_does_not_sample_is_not_sent() {
    let listening = Listening::start();
    let parent = "Parent=53995c3f42cd8ad8";
    for header in [
        None,
        Some(String::new()),
        Some(format!("{ROOT};{parent};Sampled=0")),
        Some(format!("{ROOT};{parent}")),
        Some(format!("{ROOT};Sampled=1")),
        Some(format!("Root=nonsense;{parent};Sampled=1")),
    ] {
        let span = invocation("rotate", &context(header.as_deref()));
        assert!(span.is_none(), "{header:?}");
        span.in_scope(|| tracing::trace_span!("inner").in_scope(|| {}));
        drop(span);
        assert_eq!(listening.document(), None, "{header:?}");
    }
}

#[test]
fn a_document_stays_small_and_whole_however_much_there_was() {
    let listening = Listening::start();
    let span = invocation("verify", &sampled_context());
    span.in_scope(|| {
        for number in 0..KEPT_AND_MORE {
            let faults = "x".repeat(300 + number % 2);
            tracing::trace_span!("dial", target = "i-1", faults).in_scope(|| {
                tracing::trace_span!("handshake").in_scope(|| {});
            });
        }
    });
    drop(span);
    let document = listening.document().unwrap();
    let inside = document["subsegments"].as_array().unwrap();
    let left_out = document["annotations"]["spans_left_out"].as_u64().unwrap();
    assert!(document.to_string().len() < 64_000, "{}", document.to_string().len());
    assert!(inside.len() > 50 && left_out > 100, "{} and {left_out}", inside.len());
    let whole = inside.iter().filter(|dial| dial["subsegments"][0]["name"] == "handshake").count();
    assert!(whole + 1 >= inside.len(), "{whole} of {}", inside.len());
    assert_eq!(inside[0]["metadata"]["espalier"]["faults"].as_str().unwrap().len(), 250);
}

const KEPT_AND_MORE: usize = 400;

#[test]
fn off_means_that_nothing_is_made() {
    let address = "127.0.0.1:2000";
    for env in [
        Env::default(),
        Env::of([(DAEMON, address)]),
        Env::of([(SWITCH, "false"), (DAEMON, address)]),
        Env::of([(SWITCH, "true")]),
        Env::of([(SWITCH, "true"), (DAEMON, "nowhere")]),
    ] {
        assert!(daemon(&env).is_none(), "{env:?}");
    }
    assert!(daemon(&Env::of([(SWITCH, "true"), (DAEMON, address)])).is_some());
}
