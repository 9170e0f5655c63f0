//! The auth policy of a service, limited to what VPC Lattice can evaluate under TLS passthrough: it sees who connects from
//! where and to which port, and neither a signature nor a request (VPC Lattice user guide, TLS listeners: anonymous
//! principals only; auth policies: the keys that anonymous callers have).

use serde::Deserialize;
use serde_json::Value;

use super::shape::{Shape, needed, optional};
use crate::id::{ServiceNetworkRef, VpcId};
use crate::network::policy::{Passthrough, passthrough};

/// A service's auth policy (VPC Lattice user guide, quotas).
const BYTES: usize = 10 * 1024;

/// A policy that the spec's table has accepted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Value")]
pub struct AuthPolicy(String);

impl AuthPolicy {
    /// The policy as one line of JSON, as VPC Lattice wants it.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl From<Value> for AuthPolicy {
    fn from(policy: Value) -> Self {
        // The text of a value has no line breaks, and its keys are sorted.
        Self(policy.to_string())
    }
}

pub(super) const POLICY: Shape = Shape::Whole(&Shape::Object(&[
    needed("Version", Shape::Word { now: &["2012-10-17"], later: &[] }, "the version of the policy language"),
    needed("Statement", Shape::List { of: &STATEMENT, count: 1..=10 }, "who may connect, and who may not"),
]));

const STATEMENT: Shape = Shape::Object(&[
    optional("Sid", SID, "the statement's name"),
    needed("Effect", Shape::Word { now: &["Allow", "Deny"], later: &[] }, "whether who matches may connect"),
    needed("Principal", EVERYBODY, "everybody: callers are anonymous"),
    needed("Action", Shape::Word { now: &["vpc-lattice-svcs:Invoke"], later: &[] }, "connecting"),
    needed("Resource", ANYTHING, "this service"),
    optional("Condition", CONDITION, "from where, to which port; all of them have to match"),
]);

const SID: Shape = Shape::Text {
    accepts: |text| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric()),
    expected: "1 to 64 letters and digits",
    pattern: "^[A-Za-z0-9]{1,64}$",
};

const EVERYBODY: Shape = Shape::Text {
    accepts: |text| text == "*",
    expected: "\"*\": through TLS passthrough VPC Lattice sees no signature, so that every caller is anonymous and a policy \
               that names principals matches nobody",
    pattern: "^\\*$",
};

const ANYTHING: Shape = Shape::Text {
    accepts: |text| text == "*",
    expected: "\"*\": the policy is this service's own, and paths are not seen through TLS passthrough",
    pattern: "^\\*$",
};

const CONDITION: Shape = Shape::Object(&[
    optional("StringEquals", TEXT_KEYS, "the key is one of these"),
    optional("StringNotEquals", TEXT_KEYS, "the key is none of these"),
    optional("NumericEquals", NUMBER_KEYS, "the key is one of these"),
    optional("NumericNotEquals", NUMBER_KEYS, "the key is none of these"),
]);

const TEXT_KEYS: Shape = Shape::Keys {
    fields: &[
        optional("vpc-lattice-svcs:SourceVpc", Shape::List { of: &VPC, count: 1..=20 }, "the client's VPC"),
        optional("vpc-lattice-svcs:SourceVpcOwnerAccount", Shape::List { of: &ACCOUNT, count: 1..=20 }, "its owner"),
        optional(
            "vpc-lattice-svcs:ServiceNetworkArn",
            Shape::List { of: &NETWORK, count: 1..=20 },
            "through which network",
        ),
    ],
    refused,
};

const NUMBER_KEYS: Shape = Shape::Keys {
    fields: &[optional("vpc-lattice-svcs:Port", Shape::List { of: &PORT, count: 1..=20 }, "the port connected to")],
    refused,
};

const VPC: Shape = Shape::Text {
    accepts: |text| VpcId::parse(text).is_ok(),
    expected: "a VPC id",
    pattern: "^vpc-([0-9a-f]{8}|[0-9a-f]{17})$",
};

const ACCOUNT: Shape = Shape::Text {
    accepts: |text| text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()),
    expected: "an account id of 12 digits",
    pattern: "^[0-9]{12}$",
};

const NETWORK: Shape = Shape::Text {
    accepts: |text| text.starts_with("arn:") && ServiceNetworkRef::parse(text).is_ok(),
    expected: "a VPC Lattice service network's ARN",
    pattern: "^arn:aws[a-z0-9-]*:vpc-lattice:[a-z0-9-]+:[0-9]{12}:servicenetwork/sn-[0-9a-z]{17}$",
};

const PORT: Shape = Shape::Number(1..=65_535);

/// Why a key is not among those that can be tested.
fn refused(key: &str) -> Option<&'static str> {
    let key = key.to_ascii_lowercase();
    if key.starts_with("vpc-lattice-svcs:request") {
        return Some(
            "is inside the TLS connection, which VPC Lattice passes through unread: such a condition matches nobody",
        );
    }
    if ["aws:principal", "aws:user", "aws:federated"].iter().any(|known| key.starts_with(known)) {
        return Some(
            "is about the principal, and through TLS passthrough every caller is anonymous: it matches nobody",
        );
    }
    if key == "aws:sourcevpc" {
        return Some("is not documented for anonymous callers; write vpc-lattice-svcs:SourceVpc");
    }
    None
}

/// What takes the whole policy to see.
pub(super) fn check(document: &Value, report: &mut dyn FnMut(&str, String, &str)) {
    let at = "/service/authPolicy";
    let Some(policy) = document.pointer(at).filter(|policy| policy.is_object()) else { return };
    let text = policy.to_string();
    if text.len() > BYTES {
        let problem = format!("is {} bytes long, and VPC Lattice takes {BYTES}", text.len());
        report(at, problem, "test owner accounts or networks in place of many VPCs");
    }
    if let Passthrough::Cut(why) = passthrough(&text) {
        report(at, format!("lets no connection through: {why}"), "add a statement that allows somebody");
    }
}
