//! Parameter Store: checked where the emulator behind is lax, passed on unchanged, and announced when it changed.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::rules::{Fault, Rule};
use super::{Answer, Ssm};

/// What is passed on.
pub(super) const OPERATIONS: [&str; 13] = [
    "PutParameter",
    "GetParameter",
    "GetParameters",
    "GetParametersByPath",
    "GetParameterHistory",
    "DescribeParameters",
    "DeleteParameter",
    "DeleteParameters",
    "LabelParameterVersion",
    "UnlabelParameterVersion",
    "AddTagsToResource",
    "RemoveTagsFromResource",
    "ListTagsForResource",
];

/// Bytes of a value in the Standard tier.
const STANDARD_BYTES: usize = 4_096;
/// Bytes of a value in the Advanced tier.
const ADVANCED_BYTES: usize = 8_192;
/// Characters of a name, counted with its ARN.
const NAME_CHARS: usize = 1_011;
/// Levels of a name.
const NAME_LEVELS: usize = 15;

impl Ssm {
    pub(super) async fn pass_parameter(
        &self,
        operation: &str,
        headers: &HeaderMap,
        body: Bytes,
        request: &Value,
    ) -> Result<Response, Fault> {
        if operation == "PutParameter" {
            self.check_put(request)?;
        }
        let kinds = self.kinds_before(operation, headers, request).await;
        let (response, answer) = self.pass(headers.clone(), body).await?;
        if response.status().is_success() {
            self.announce(operation, request, &answer, &kinds);
        }
        Ok(response)
    }

    fn check_put(&self, request: &Value) -> Result<(), Fault> {
        let name = request["Name"].as_str().ok_or_else(|| Fault::new(Rule::Shape, "Name is required"))?;
        let value = request["Value"].as_str().ok_or_else(|| Fault::new(Rule::Shape, "Value is required"))?;
        let arn_prefix = format!("arn:aws:ssm:{}:{}:parameter", self.inner.options.region, self.inner.options.account);
        check_name(name, arn_prefix.len())?;
        if value.contains("{{") {
            return Err(Fault::new(Rule::ParameterReference, format!("the value of {name} contains {{{{")));
        }
        let limit = match request["Tier"].as_str().unwrap_or("Standard") {
            "Standard" => STANDARD_BYTES,
            "Advanced" | "Intelligent-Tiering" => ADVANCED_BYTES,
            other => return Err(Fault::new(Rule::Shape, format!("Tier {other}"))),
        };
        if value.is_empty() || value.len() > limit {
            let problem = format!("the value of {name} has {} bytes; this tier takes 1 to {limit}", value.len());
            return Err(Fault::new(Rule::ParameterSize, problem));
        }
        Ok(())
    }

    /// A deletion's event names the type, which only the time before it knows.
    async fn kinds_before(&self, operation: &str, headers: &HeaderMap, request: &Value) -> Vec<(String, String)> {
        let mut kinds = Vec::new();
        let names: Vec<String> = match operation {
            "DeleteParameter" => request["Name"].as_str().map(str::to_owned).into_iter().collect(),
            "DeleteParameters" => strings(&request["Names"]),
            "PutParameter" if request["Type"].is_null() => {
                request["Name"].as_str().map(str::to_owned).into_iter().collect()
            }
            _ => return kinds,
        };
        for name in names {
            let mut headers = headers.clone();
            headers.insert("x-amz-target", header::HeaderValue::from_static("AmazonSSM.GetParameter"));
            let body = json!({"Name": name, "WithDecryption": false}).to_string();
            if let Ok((_, answer)) = self.pass(headers, Bytes::from(body)).await
                && let Some(kind) = answer["Parameter"]["Type"].as_str()
            {
                kinds.push((name, kind.to_owned()));
            }
        }
        kinds
    }

    fn announce(&self, operation: &str, request: &Value, answer: &Value, kinds: &[(String, String)]) {
        let kind = |name: &str| {
            let before = kinds.iter().find(|(known, _)| known == name).map(|(_, kind)| kind.clone());
            before.unwrap_or_else(|| "String".to_owned())
        };
        match operation {
            "PutParameter" => {
                let name = request["Name"].as_str().unwrap_or_default();
                let created = answer["Version"].as_i64().is_some_and(|version| version == 1);
                let kind = request["Type"].as_str().map_or_else(|| kind(name), str::to_owned);
                self.changed(if created { "Create" } else { "Update" }, name, &kind, request["Description"].as_str());
            }
            "DeleteParameter" => {
                let name = request["Name"].as_str().unwrap_or_default();
                self.changed("Delete", name, &kind(name), None);
            }
            "DeleteParameters" => {
                for name in strings(&answer["DeletedParameters"]) {
                    self.changed("Delete", &name, &kind(&name), None);
                }
            }
            "LabelParameterVersion" => {
                let name = request["Name"].as_str().unwrap_or_default();
                self.changed("LabelParameterVersion", name, &kind(name), None);
            }
            _ => {}
        }
    }

    fn changed(&self, operation: &str, name: &str, kind: &str, description: Option<&str>) {
        let options = &self.inner.options;
        let path = name.strip_prefix('/').unwrap_or(name);
        let arn = format!("arn:aws:ssm:{}:{}:parameter/{path}", options.region, options.account);
        let mut detail = json!({"operation": operation, "name": name, "type": kind});
        if let Some(description) = description {
            detail["description"] = description.into();
        }
        self.emit("Parameter Store Change", vec![arn], detail);
    }

    async fn pass(&self, mut headers: HeaderMap, body: Bytes) -> Result<(Response, Value), Fault> {
        // The connection is ours, not the caller's.
        for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::EXPECT] {
            headers.remove(name);
        }
        let down = |error: reqwest::Error| Fault::new(Rule::Upstream, error.without_url().to_string());
        let sent = self.inner.http.post(format!("{}/", self.inner.options.upstream)).headers(headers).body(body);
        let answer = sent.send().await.map_err(down)?;
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        let bytes = answer.bytes().await.map_err(down)?;
        let parsed = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        headers.remove(header::TRANSFER_ENCODING);
        headers.remove(header::CONNECTION);
        let mut response = Response::new(Body::from(bytes));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok((response, parsed))
    }
}

fn check_name(name: &str, arn_prefix: usize) -> Result<(), Fault> {
    let refuse = |problem: &str| Err(Fault::new(Rule::ParameterName, format!("{name:?} {problem}")));
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-/".contains(c)) {
        return refuse("is not of a-zA-Z0-9_.-/");
    }
    if name.contains('/') && !name.starts_with('/') {
        return refuse("is a hierarchy and does not begin with /");
    }
    if name.ends_with('/') || name.contains("//") {
        return refuse("has an empty level");
    }
    if name.len() + arn_prefix > NAME_CHARS {
        return refuse("is longer than 1,011 characters with its ARN");
    }
    if name.matches('/').count() > NAME_LEVELS {
        return refuse("has more than 15 levels");
    }
    let lower = name.trim_start_matches('/').to_ascii_lowercase();
    if lower.starts_with("aws") || lower.starts_with("ssm") {
        return refuse("begins with aws or ssm");
    }
    Ok(())
}

/// The strings of a list.
pub(super) fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A required string.
pub(super) fn text<'a>(request: &'a Value, member: &str) -> Result<&'a str, Fault> {
    request[member].as_str().ok_or_else(|| Fault::new(Rule::Shape, format!("{member} is required")))
}

/// One page of `items`: `MaxResults` within `limits` (default the upper one), `NextToken` an offset of ours.
pub(super) fn page(request: &Value, list: &str, items: Vec<Value>, limits: (u64, u64)) -> Answer {
    let size = match &request["MaxResults"] {
        Value::Null => limits.1,
        given => match given.as_u64() {
            Some(size) if (limits.0..=limits.1).contains(&size) => size,
            _ => return Err(Fault::new(Rule::Shape, format!("MaxResults is {} to {}", limits.0, limits.1))),
        },
    };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let start = match request["NextToken"].as_str() {
        None => 0,
        Some(token) => match token.strip_prefix("page-").and_then(|offset| offset.parse::<usize>().ok()) {
            Some(start) if start <= items.len() => start,
            _ => return Err(Fault::new(Rule::NextToken, token)),
        },
    };
    let total = items.len();
    let page: Vec<Value> = items.into_iter().skip(start).take(size).collect();
    let end = start + page.len();
    let mut answer = json!({ list: page });
    if end < total {
        answer["NextToken"] = format!("page-{end}").into();
    }
    Ok(answer)
}
