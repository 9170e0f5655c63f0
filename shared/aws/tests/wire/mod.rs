//! A loopback HTTP server that plays an AWS endpoint: it keeps every request as it came over the wire and answers with
//! what the test says. The SDK crates' own test utilities would switch features on in every SDK crate and have them
//! all compiled again.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, reason = "each test crate uses a part of it")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    /// Path and query, as sent.
    pub path: String,
    /// Header names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Seen {
    /// `GET /services`, or for the JSON protocols the operation's name.
    pub fn what(&self) -> String {
        match self.headers.iter().find(|(name, _)| name == "x-amz-target") {
            Some((_, target)) => target.rsplit('.').next().unwrap().to_owned(),
            None => format!("{} {}", self.method, self.path),
        }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or(serde_json::Value::Null)
    }
}

type Answer = (u16, String);

pub struct Wire {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Wire {
    /// Starts a server that answers with what `respond` says to each request.
    pub async fn answering(respond: impl FnMut(&Seen) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let respond = Arc::new(Mutex::new(respond));
        let kept = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, respond) = (Arc::clone(&kept), Arc::clone(&respond));
                tokio::spawn(async move {
                    serve(stream, |request| {
                        let answer = (respond.lock().unwrap())(&request);
                        kept.lock().unwrap().push(request);
                        answer
                    })
                    .await;
                });
            }
        });
        Self { url, seen }
    }

    /// Answers by what is asked: the first entry whose key [`Seen::what`] starts with; else 404.
    pub async fn table(entries: Vec<(&'static str, u16, serde_json::Value)>) -> Self {
        Self::answering(move |seen| {
            let what = seen.what();
            match entries.iter().find(|(key, ..)| what.starts_with(key)) {
                Some((_, status, body)) => (*status, body.as_str().map_or_else(|| body.to_string(), str::to_owned)),
                None => {
                    (404, serde_json::json!({ "message": format!("the test has no answer to {what}") }).to_string())
                }
            }
        })
        .await
    }

    /// Holds each request for a while before it says the same to all; answers the server, and the most that were held at
    /// once so far.
    pub async fn holding(hold: std::time::Duration, answer: Answer) -> (Self, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (held, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let seen_most = Arc::clone(&most);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (held, most, answer) = (Arc::clone(&held), Arc::clone(&seen_most), answer.clone());
                tokio::spawn(async move {
                    let mut buffer = Vec::new();
                    while request(&mut stream, &mut buffer).await.is_some() {
                        most.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        tokio::time::sleep(hold).await;
                        held.fetch_sub(1, Ordering::SeqCst);
                        let (status, body) = &answer;
                        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
                        if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        (Self { url, seen: Arc::default() }, most)
    }

    /// A configuration that reaches only this server, without retries.
    pub fn sdk(&self) -> SdkConfig {
        let keys = aws_sdk_ssm::config::Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(aws_sdk_ssm::config::SharedCredentialsProvider::new(keys))
            .retry_config(aws_config::retry::RetryConfig::disabled())
            .endpoint_url(&self.url)
            .build()
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What came, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// [`Seen::what`] of what came, in order.
    pub fn asked(&self) -> Vec<String> {
        self.seen().iter().map(Seen::what).collect()
    }
}

async fn serve(mut stream: TcpStream, mut answer: impl FnMut(Seen) -> Answer) {
    let mut buffer = Vec::new();
    while let Some(seen) = request(&mut stream, &mut buffer).await {
        let (status, body) = answer(seen);
        let error = if status >= 400 { code_header(&body) } else { String::new() };
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{error}content-length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// REST-JSON services name the error in a header; a test writes it as `__type` in the body like the others do.
fn code_header(body: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    value["__type"].as_str().map(|code| format!("x-amzn-errortype: {code}\r\n")).unwrap_or_default()
}

async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer.drain(..end).collect()).ok()?;
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, v)| v.parse().unwrap());
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8(buffer.drain(..length).collect()).ok()?;
    Some(Seen { method, path, headers, body })
}
