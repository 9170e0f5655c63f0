//! A stand-in for AWS STS, as far as Espalier uses it: `AssumeRole` into another account, whose roles are those of the template
//! that its owner would deploy there. Whatever else is asked of STS passes on to the emulator.
//!
//! The emulator grants every role to everybody and under any external id. What the lab cannot tell either is *which*
//! function asks: they all have the same dummy keys. That the roles trust the right one is the contract tests' to hold.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use reqwest::Url;
use serde_json::Value;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use tokio::net::TcpListener;

use crate::aws::REGION;
use crate::cloudformation::template::{self, Scope, TemplateError};

/// The stand-in. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Sts {
    upstream: String,
    http: reqwest::Client,
    address: SocketAddr,
    state: Arc<Mutex<Accounts>>,
}

#[derive(Debug, Default)]
struct Accounts {
    /// By ARN.
    roles: BTreeMap<String, Role>,
    /// By access key.
    sessions: BTreeMap<String, Session>,
}

#[derive(Debug, Clone)]
struct Role {
    account: String,
    /// `sts:ExternalId` of its trust policy.
    external_id: String,
    /// What its policies allow.
    actions: Vec<String>,
}

#[derive(Debug)]
struct Session {
    token: String,
    role: String,
    end: OffsetDateTime,
}

/// Who makes a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Somebody of the lab's own account.
    Own,
    /// A session in another account, and what it may do there.
    Session {
        /// The account.
        account: String,
        /// The actions that its role allows.
        actions: Vec<String>,
    },
    /// Keys that STS never gave, or with another token, or that have ended.
    Nobody,
}

/// A refusal: STS's error code and its text.
type Refusal = (StatusCode, &'static str, String);

impl Sts {
    /// Serves on a loopback port; `upstream` answers what this does not.
    pub async fn start(upstream: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let upstream = upstream.trim_end_matches('/').to_owned();
        let (http, state) = (reqwest::Client::new(), Arc::default());
        let sts = Self { upstream, http, address: listener.local_addr()?, state };
        let app = Router::new().fallback(answer).with_state(sts.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(sts)
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes the named roles of a template in an account, in place of what they were; how many there are.
    ///
    /// # Errors
    /// The template cannot be read or resolved with these parameters.
    pub fn deploy(
        &self,
        template: &str,
        account: &str,
        parameters: &BTreeMap<String, String>,
    ) -> Result<usize, TemplateError> {
        let parsed = template::parse(template)?;
        let scope = Scope { stack: "certificates", region: REGION, account, parameters };
        let mut made = 0;
        for resource in parsed["Resources"].as_object().into_iter().flat_map(|all| all.values()) {
            let properties = &resource["Properties"];
            if resource["Type"] != "AWS::IAM::Role" || properties["RoleName"].is_null() {
                continue;
            }
            let name = text(&template::resolve(&properties["RoleName"], &scope)?);
            let trust = template::resolve(&properties["AssumeRolePolicyDocument"]["Statement"][0], &scope)?;
            let allowed = properties["Policies"].as_array().into_iter().flatten();
            let allowed =
                allowed.flat_map(|policy| policy["PolicyDocument"]["Statement"].as_array().into_iter().flatten());
            let role = Role {
                account: account.to_owned(),
                external_id: text(&trust["Condition"]["StringEquals"]["sts:ExternalId"]),
                actions: allowed.map(|statement| text(&statement["Action"])).collect(),
            };
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.roles.insert(format!("arn:aws:iam::{account}:role/{name}"), role);
            made += 1;
        }
        Ok(made)
    }

    /// Whose keys a call is signed with. The lab checks no signature.
    pub fn caller(&self, headers: &HeaderMap) -> Caller {
        let named = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let signed = named("authorization").split("Credential=").nth(1).unwrap_or_default();
        let key = signed.split('/').next().unwrap_or_default();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.sessions.get(key) {
            // Keys of sessions begin like this (IAM user guide, unique identifiers).
            None if key.starts_with("ASIA") => Caller::Nobody,
            None => Caller::Own,
            Some(session) if session.token != named("x-amz-security-token") => Caller::Nobody,
            Some(session) if session.end <= OffsetDateTime::now_utc() => Caller::Nobody,
            Some(session) => state.roles.get(&session.role).map_or(Caller::Nobody, |role| Caller::Session {
                account: role.account.clone(),
                actions: role.actions.clone(),
            }),
        }
    }

    /// API reference, `AssumeRole`; IAM user guide, the confused deputy problem.
    fn assume(&self, asked: &BTreeMap<String, String>) -> Result<String, Refusal> {
        let given = |name: &str| asked.get(name).map(String::as_str).unwrap_or_default();
        let invalid =
            |what: &str| (StatusCode::BAD_REQUEST, "ValidationError", format!("1 validation error detected: {what}"));
        let (role, session) = (given("RoleArn"), given("RoleSessionName"));
        if !(2..=64).contains(&session.len()) || !is_of_words(session, "+=,.@-") {
            return Err(invalid("Value at 'roleSessionName' failed to satisfy constraint"));
        }
        let seconds: i64 = asked.get("DurationSeconds").map_or(Ok(3_600), |text| text.parse()).unwrap_or_default();
        // The most that a role grants unless it says otherwise (`MaxSessionDuration`).
        if !(900..=3_600).contains(&seconds) {
            return Err(invalid("The requested DurationSeconds is not between 900 and the role's MaxSessionDuration"));
        }
        let external_id = given("ExternalId");
        if !external_id.is_empty() && (external_id.len() < 2 || !is_of_words(external_id, "+=,.@:/-")) {
            return Err(invalid("Value at 'externalId' failed to satisfy constraint"));
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Whether there is such a role, or what of its trust policy was not met, is not told.
        if state.roles.get(role).is_none_or(|known| known.external_id != external_id) {
            let message = format!("User is not authorized to perform: sts:AssumeRole on resource: {role}");
            return Err((StatusCode::FORBIDDEN, "AccessDenied", message));
        }
        let (key, token) =
            (format!("ASIALAB{:09}", state.sessions.len()), format!("token-{:09}", state.sessions.len()));
        let end = OffsetDateTime::now_utc() + Duration::seconds(seconds);
        let shown = end.replace_nanosecond(0).unwrap_or(end).format(&Rfc3339).unwrap_or_default();
        let answer = format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
             <AccessKeyId>{key}</AccessKeyId><SecretAccessKey>lab</SecretAccessKey><SessionToken>{token}</SessionToken>\
             <Expiration>{shown}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
        );
        state.sessions.insert(key, Session { token, role: role.to_owned(), end });
        Ok(answer)
    }

    async fn pass(&self, uri: &Uri, headers: HeaderMap, body: Bytes) -> Result<Response, reqwest::Error> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = headers;
        for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::EXPECT] {
            headers.remove(name);
        }
        let answer = self.http.post(format!("{}{path}", self.upstream)).headers(headers).body(body).send().await?;
        let status = answer.status();
        let kind = answer.headers().get(header::CONTENT_TYPE).cloned();
        let kind = kind.unwrap_or(header::HeaderValue::from_static("text/xml"));
        Ok((status, [(header::CONTENT_TYPE, kind)], answer.bytes().await?).into_response())
    }
}

async fn answer(State(sts): State<Sts>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let form = Url::parse(&format!("http://form/?{}", String::from_utf8_lossy(&body)));
    let asked: BTreeMap<String, String> = form.map(|url| url.query_pairs().into_owned().collect()).unwrap_or_default();
    if asked.get("Action").map(String::as_str) != Some("AssumeRole") {
        let passed = sts.pass(&uri, headers, body).await;
        return passed.unwrap_or_else(|error| (StatusCode::BAD_GATEWAY, error.to_string()).into_response());
    }
    let (status, answer) = match sts.assume(&asked) {
        Ok(answer) => (StatusCode::OK, answer),
        Err((status, code, message)) => (
            status,
            format!(
                "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
                 <Code>{code}</Code><Message>{message}</Message></Error><RequestId>local</RequestId></ErrorResponse>"
            ),
        ),
    };
    (status, [(header::CONTENT_TYPE, "text/xml")], answer).into_response()
}

fn is_of_words(text: &str, others: &str) -> bool {
    text.chars().all(|one| one.is_ascii_alphanumeric() || one == '_' || others.contains(one))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../examples/certificate-account.yaml");
    const ACCOUNT: &str = "210987654321";

    fn asked(role: &str, changes: &[(&str, &str)]) -> BTreeMap<String, String> {
        let role = format!("arn:aws:iam::{ACCOUNT}:role/espalier-certificate-{role}");
        let usual = [("RoleArn", role.as_str()), ("RoleSessionName", "espalier-rotate"), ("ExternalId", "orchard")];
        let all = usual.into_iter().chain(changes.iter().copied());
        all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn signed(key: &str, token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let line = format!("AWS4-HMAC-SHA256 Credential={key}/20261121/eu-west-1/acm/aws4_request, Signature=0");
        headers.insert("authorization", line.parse().unwrap());
        headers.insert("x-amz-security-token", token.parse().unwrap());
        headers
    }

    #[tokio::test]
    async fn a_role_is_assumed_by_its_external_id_and_a_session_needs_its_token() {
        let sts = Sts::start("http://127.0.0.1:9").await.unwrap();
        let parameters = [("ExternalId", "orchard"), ("RotateRoleArn", "r"), ("ExportRoleArn", "e")];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let refused = |asked: &BTreeMap<String, String>| sts.assume(asked).err().map(|(_, code, _)| code);
        assert_eq!(refused(&asked("reader", &[])), Some("AccessDenied"), "before it is deployed");
        assert_eq!(sts.deploy(EXAMPLE, ACCOUNT, &parameters).unwrap(), 2);
        for (change, code) in [
            (("ExternalId", "another"), "AccessDenied"),
            (("ExternalId", ""), "AccessDenied"),
            (("ExternalId", "x"), "ValidationError"),
            (("RoleArn", "arn:aws:iam::210987654321:role/other"), "AccessDenied"),
            (("RoleSessionName", "a b"), "ValidationError"),
            (("RoleSessionName", ""), "ValidationError"),
            (("DurationSeconds", "899"), "ValidationError"),
            (("DurationSeconds", "3601"), "ValidationError"),
        ] {
            assert_eq!(refused(&asked("reader", &[change])), Some(code), "{change:?}");
        }
        assert!(sts.assume(&asked("exporter", &[])).unwrap().contains("<SessionToken>token-000000000<"));
        let may = |headers| match sts.caller(&headers) {
            Caller::Session { actions, .. } => actions,
            Caller::Own | Caller::Nobody => Vec::new(),
        };
        assert_eq!(may(signed("ASIALAB000000000", "token-000000000")), ["acm:ExportCertificate"]);
        assert_eq!(sts.caller(&signed("ASIALAB000000000", "")), Caller::Nobody);
        assert_eq!(sts.caller(&signed("ASIALAB000000001", "token-000000000")), Caller::Nobody);
        assert_eq!(sts.caller(&signed("test", "")), Caller::Own);
    }
}
