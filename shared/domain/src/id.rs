//! Identifiers that are parsed once, at the boundary, and cannot hold anything else afterwards.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Why a piece of text is not the identifier it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {expected}")]
pub struct NotAnId {
    /// The text that was refused.
    pub value: String,
    /// What would have been accepted, as a phrase that finishes "is not ...".
    pub expected: &'static str,
}

/// Declares a string newtype whose every construction runs `$check`.
macro_rules! text_id {
    ($(#[$meta:meta])* $name:ident, $expected:literal, $check:expr) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            #[doc = concat!("Accepts ", $expected, ".")]
            pub fn parse(value: impl Into<String>) -> Result<Self, NotAnId> {
                let value = value.into();
                let check: fn(&str) -> bool = $check;
                if check(&value) { Ok(Self(value)) } else { Err(NotAnId { value, expected: $expected }) }
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotAnId;
            fn try_from(value: String) -> Result<Self, NotAnId> {
                Self::parse(value)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

text_id!(
    /// A stack: one service, its targets and their certificates. Short enough that every name derived from it fits
    /// VPC Lattice's limits (a service name has 3 to 40 characters).
    StackName, "3 to 24 lower-case letters, digits and single inner hyphens, starting with a letter",
    |v| (3..=24).contains(&v.len())
        && v.starts_with(|c: char| c.is_ascii_lowercase())
        && v.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !v.ends_with('-')
        && !v.contains("--")
        // A service name may not start with `svc-`, a target group's not with `tg-` (VPC Lattice API reference).
        && !["svc-", "tg-", "sn-", "servicenetwork-", "listener-"].iter().any(|p| v.starts_with(p))
);

text_id!(
    /// Who serves the certificate: as VPC Lattice knows it, an EC2 instance by its id, or whatever answers at an address; where
    /// others install, a host name, too.
    TargetId,
    "an EC2 instance id (i- and 8 or 17 hexadecimal digits), an IP address as it is usually written, or a lower-case host name",
    |v| prefixed_hex(v, "i-", &[8, 17]) || address(v).is_some() || is_host_name(v)
);

impl TargetId {
    /// What answers at this address.
    pub fn at(address: IpAddr) -> Self {
        Self(address.to_string())
    }

    /// The address, of a target that is one.
    pub fn address(&self) -> Option<IpAddr> {
        address(&self.0)
    }

    /// Whatever answers to this name.
    pub fn named(host: &HostName) -> Self {
        Self(host.0.clone())
    }

    /// The name, of a target that is one.
    pub fn host(&self) -> Option<HostName> {
        // Of an instance, the most frequent by far, a look tells it.
        let is_name = self.0.contains('.') && self.address().is_none();
        is_name.then(|| HostName(self.0.clone()))
    }
}

text_id!(
    /// A node that Systems Manager manages: an EC2 instance, or a host that was registered with an activation.
    NodeId, "a managed node's id (i- and 8 or 17, or mi- and 17 hexadecimal digits)",
    |v| prefixed_hex(v, "i-", &[8, 17]) || prefixed_hex(v, "mi-", &[17])
);

impl NodeId {
    /// The node that is the target itself: an instance is, and neither an address nor a name.
    pub fn of(target: &TargetId) -> Option<Self> {
        Self::parse(target.as_str()).ok()
    }
}

text_id!(
    /// Chosen by chance for one command: what a host signs together with it was made after the command was sent.
    Nonce, "64 lower-case hexadecimal digits",
    |v| v.len() == 64 && v.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
);

text_id!(
    /// A prober beside the control plane's own (`prober.yaml`). Short enough that the function's name, which is made of it,
    /// fits Lambda's 64 characters behind a control plane of 30.
    ProberName, "1 to 24 lower-case letters, digits and single inner hyphens, starting with a letter",
    |v| (1..=24).contains(&v.len())
        && v.starts_with(|c: char| c.is_ascii_lowercase())
        && v.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !v.ends_with('-')
        && !v.contains("--")
);

text_id!(
    /// A VPC.
    VpcId, "a VPC id (vpc- and 8 or 17 hexadecimal digits)", |v| prefixed_hex(v, "vpc-", &[8, 17])
);

text_id!(
    /// A VPC subnet.
    SubnetId, "a subnet id (subnet- and 8 or 17 hexadecimal digits)", |v| prefixed_hex(v, "subnet-", &[8, 17])
);

text_id!(
    /// An EC2 security group.
    SecurityGroupId, "a security group id (sg- and 8 or 17 hexadecimal digits)",
    |v| prefixed_hex(v, "sg-", &[8, 17])
);

text_id!(
    /// A Route 53 hosted zone.
    HostedZoneId, "a hosted zone id (1 to 32 upper-case letters and digits)",
    |v| (1..=32).contains(&v.len())
        && v.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
);

text_id!(
    /// A fully qualified DNS host name in lower case, without a trailing dot and without a wildcard (RFC 1123). Its last label is
    /// no number: what ends in one is read as an IPv4 address (RFC 1123, section 2.1).
    HostName, "a lower-case DNS host name of at least two labels, without wildcard or trailing dot", is_host_name
);

text_id!(
    /// An IAM principal, as somebody says who asks for something.
    Caller, "the ARN of an IAM principal (arn:aws:iam::ACCOUNT:... or arn:aws:sts::ACCOUNT:..., at most 300 characters)",
    |v| {
        let parts: Vec<&str> = v.splitn(6, ':').collect();
        v.len() <= 300
            && v.bytes().all(|b| b.is_ascii_graphic())
            && matches!(parts.as_slice(), ["arn", partition, "iam" | "sts", "", account, name]
                if partition.starts_with("aws")
                    && account.len() == 12
                    && account.bytes().all(|b| b.is_ascii_digit())
                    && !name.is_empty())
    }
);

text_id!(
    /// Why a person asks for something, in the person's words.
    Reason, "1 to 200 characters of text on one line",
    |v| v.chars().count() <= 200 && !v.trim().is_empty() && !v.chars().any(char::is_control)
);

text_id!(
    /// Somebody who verifies what is served and was registered: nothing is signed below a root that it does not have.
    VerifierName, "1 to 40 lower-case letters, digits and hyphens, starting with a letter",
    |v| (1..=40).contains(&v.len())
        && v.starts_with(|c: char| c.is_ascii_lowercase())
        && v.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
);

text_id!(
    /// An ACM certificate.
    AcmArn, "an ACM certificate ARN (arn:aws:acm:REGION:ACCOUNT:certificate/ID)",
    |v| {
        let parts: Vec<&str> = v.splitn(6, ':').collect();
        matches!(parts.as_slice(), ["arn", partition, "acm", region, account, resource]
            if partition.strip_prefix("aws").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
                && !region.is_empty()
                && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && account.len() == 12
                && account.bytes().all(|b| b.is_ascii_digit())
                && resource.strip_prefix("certificate/").is_some_and(|id| {
                    !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                }))
    }
);

impl AcmArn {
    /// The Region it is in.
    pub fn region(&self) -> &str {
        self.part(3)
    }

    /// The account it belongs to.
    pub fn account(&self) -> &str {
        self.part(4)
    }

    /// The partition it is in: `aws`, `aws-cn`, ...
    pub fn partition(&self) -> &str {
        self.part(1)
    }

    fn part(&self, at: usize) -> &str {
        self.0.split(':').nth(at).unwrap_or_default()
    }
}

text_id!(
    /// Where access logs go.
    LogDestination,
    "the ARN of an S3 bucket (arn:aws:s3:::NAME), a CloudWatch log group (arn:aws:logs:REGION:ACCOUNT:log-group:NAME) or a \
     Firehose stream (arn:aws:firehose:REGION:ACCOUNT:deliverystream/NAME)",
    |v| log_destination(v).is_some()
);

/// The kinds of destinations that VPC Lattice takes (API reference, `CreateAccessLogSubscription`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogDestinationKind {
    Bucket,
    LogGroup,
    Stream,
}

impl LogDestination {
    /// Whether an ARN as AWS tells it means this destination: a log group's may end in `:*` or not.
    pub fn is_same(&self, told: &str) -> bool {
        bare_log_group(&self.0) == bare_log_group(told)
    }

    /// Whether both are buckets, or log groups, or streams.
    pub fn is_of_same_kind(&self, told: &str) -> bool {
        log_destination(&self.0) == log_destination(told)
    }
}

text_id!(
    /// A VPC Lattice service.
    ServiceId, "a VPC Lattice service id (svc- and 17 lower-case letters or digits)", |v| lattice_id(v, "svc-")
);

text_id!(
    /// A VPC Lattice target group.
    TargetGroupId, "a VPC Lattice target group id (tg- and 17 lower-case letters or digits)",
    |v| lattice_id(v, "tg-")
);

text_id!(
    /// A VPC Lattice service network: its id, or its ARN where another account shares it.
    ServiceNetworkRef, "a VPC Lattice service network's id (sn- and 17 lower-case letters or digits) or ARN",
    |v| {
        let parts: Vec<&str> = v.splitn(6, ':').collect();
        match parts.as_slice() {
            [id] => lattice_id(id, "sn-"),
            ["arn", partition, "vpc-lattice", region, account, resource] => {
                let is_word = |word: &str| {
                    word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                };
                partition.strip_prefix("aws").is_some_and(is_word)
                    && !region.is_empty()
                    && is_word(region)
                    && account.len() == 12
                    && account.bytes().all(|b| b.is_ascii_digit())
                    && resource.strip_prefix("servicenetwork/").is_some_and(|id| lattice_id(id, "sn-"))
            }
            _ => false,
        }
    }
);

impl ServiceNetworkRef {
    /// The id, whichever way it is referred to.
    pub fn id(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

text_id!(
    /// Whose leaf it is: `shared` by all of a stack's targets, `target` for a generation in which each has its own, or the
    /// managed node that one of those is for.
    Scope, "`shared`, `target` or a managed node's id", |v| matches!(v, "shared" | "target") || NodeId::parse(v).is_ok()
);

impl Scope {
    /// One leaf for every target of the stack.
    pub fn shared() -> Self {
        Self("shared".into())
    }

    /// A leaf for each target. No leaf has this scope, but the generation that they are of.
    pub fn target() -> Self {
        Self("target".into())
    }

    /// The leaf of one target: of the node that it is installed on.
    pub fn of(node: &NodeId) -> Self {
        Self(node.as_str().to_owned())
    }

    /// Whether each target has a leaf of its own.
    pub fn is_each(&self) -> bool {
        self.0 == "target"
    }
}

/// How often a stack's targets were to have a new leaf: 1 for the first. Never reused, never goes back, whoever shares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u32);

impl Generation {
    /// The first generation of a stack.
    pub const FIRST: Self = Self(1);

    /// No generation of ours: what others installed is numbered by nobody.
    pub const NONE: Self = Self(0);

    /// The generation after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How often a rotation of a stack has been started; part of the state machine execution's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u32);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The Parameter Store name of a spec: `/espalier-spec/<stack>`.
pub fn spec_parameter(stack: &StackName) -> String {
    format!("/espalier-spec/{stack}")
}

/// The Parameter Store name of a leaf bundle: `/espalier-leaf/<stack>/<scope>/<generation>`. Never written over.
pub fn leaf_parameter(stack: &StackName, scope: &Scope, generation: Generation) -> String {
    format!("/espalier-leaf/{stack}/{scope}/{generation}")
}

fn prefixed_hex(value: &str, prefix: &str, lengths: &[usize]) -> bool {
    value.strip_prefix(prefix).is_some_and(|hex| {
        lengths.contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// An address in the one form in which it is written down: two ways to write it would be two targets.
fn address(value: &str) -> Option<IpAddr> {
    value.parse::<IpAddr>().ok().filter(|address| address.to_string() == value && address.to_canonical() == *address)
}

fn bare_log_group(arn: &str) -> &str {
    if arn.contains(":log-group:") { arn.trim_end_matches(":*") } else { arn }
}

fn log_destination(value: &str) -> Option<LogDestinationKind> {
    let [arn, partition, service, region, account, resource] =
        value.splitn(6, ':').collect::<Vec<_>>().try_into().ok()?;
    let is_partition = partition.starts_with("aws") && partition.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    let is_regional = !region.is_empty()
        && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit());
    let named = |name: &str, lengths: std::ops::RangeInclusive<usize>, others: &[u8]| {
        lengths.contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || others.contains(&b))
    };
    let kind = match service {
        "s3" if region.is_empty() && account.is_empty() => {
            let is_name = named(resource, 3..=63, b".-") && !resource.bytes().any(|b| b.is_ascii_uppercase());
            is_name.then_some(LogDestinationKind::Bucket)
        }
        "logs" if is_regional => {
            let name = resource.strip_prefix("log-group:")?;
            named(name.strip_suffix(":*").unwrap_or(name), 1..=512, b"_-/.#").then_some(LogDestinationKind::LogGroup)
        }
        "firehose" if is_regional => {
            let name = resource.strip_prefix("deliverystream/")?;
            named(name, 1..=64, b"_-.").then_some(LogDestinationKind::Stream)
        }
        _ => None,
    };
    kind.filter(|_| arn == "arn" && is_partition)
}

/// VPC Lattice's own ids (`ServiceId`, `TargetGroupId`, `ServiceNetworkId` in its API reference).
fn lattice_id(value: &str, prefix: &str) -> bool {
    value
        .strip_prefix(prefix)
        .is_some_and(|id| id.len() == 17 && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

fn is_host_name(value: &str) -> bool {
    let labels: Vec<&str> = value.split('.').collect();
    value.len() <= 253
        && labels.len() >= 2
        && !labels.last().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()))
        && labels.iter().all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_name_leaves_room_for_the_names_made_of_it() {
        for good in ["payments", "a1b", "api-service", "abcdefghijklmnopqrstuvwx"] {
            assert!(StackName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "ab", "Payments", "1abc", "a--b", "ab-", "svc-pay", "abcdefghijklmnopqrstuvwxy", "a_b", "a/b"] {
            assert!(StackName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn access_logs_go_to_a_bucket_a_log_group_or_a_stream() {
        let bucket = "arn:aws:s3:::access-logs.example";
        let group = "arn:aws:logs:eu-west-1:111122223333:log-group:/lattice/api#1";
        let stream = "arn:aws-us-gov:firehose:us-gov-west-1:111122223333:deliverystream/api_logs";
        for good in [bucket, group, &format!("{group}:*"), stream] {
            assert!(LogDestination::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "arn:aws:s3:::Access-Logs",
            "arn:aws:s3:::logs/prefix",
            "arn:aws:s3:eu-west-1:111122223333:logs",
            "arn:aws:logs:eu-west-1:111122223333:log-group:",
            "arn:aws:logs::111122223333:log-group:a",
            "arn:aws:logs:eu-west-1:111122223333:log-group:a:log-stream:b",
            "arn:aws:firehose:eu-west-1:111122223333:stream/a",
            "arn:aws:sqs:eu-west-1:111122223333:a",
            "arm:aws:s3:::access-logs",
        ] {
            assert!(LogDestination::parse(bad).is_err(), "{bad}");
        }
        let group = LogDestination::parse(group).unwrap();
        assert!(group.is_same(&format!("{group}:*")) && !group.is_same(bucket));
        assert!(
            group.is_of_same_kind("arn:aws:logs:eu-west-1:111122223333:log-group:b") && !group.is_of_same_kind(bucket)
        );
    }

    #[test]
    fn a_host_name_is_exact_and_lower_case() {
        assert!(HostName::parse("api-service.example.com").is_ok());
        for bad in ["example", "*.example.com", "API.example.com", "a..b", "a.b.", "-a.b", "a b.c", "10.0.1.05", "a.1"]
        {
            assert!(HostName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_target_is_an_instance_a_name_or_an_address_in_its_one_form_and_a_node_neither_of_those() {
        for good in ["i-0abc1234", "10.0.1.5", "fd00:ec2::1", "internal-a-1.elb.amazonaws.com"] {
            assert!(TargetId::parse(good).is_ok(), "{good}");
        }
        for bad in
            ["mi-0abc1234def567890", "10.0.1", "10.0.1.05", "FD00::1", "fd00:0::1", "::ffff:10.0.0.1", "10.0.1.5/32"]
        {
            assert!(TargetId::parse(bad).is_err(), "{bad}");
        }
        assert!(NodeId::parse("mi-0abc1234def567890").is_ok() && NodeId::parse("i-0abc1234").is_ok());
        assert!(NodeId::parse("10.0.1.5").is_err() && NodeId::parse("mi-0abc1234").is_err());
        let (instance, address) = (TargetId::parse("i-0abc1234").unwrap(), TargetId::parse("10.0.1.5").unwrap());
        assert_eq!(NodeId::of(&instance).map(|node| node.to_string()).as_deref(), Some("i-0abc1234"));
        assert_eq!((NodeId::of(&address), instance.address()), (None, None));
        let name = TargetId::parse("a.example.com").unwrap();
        assert_eq!((NodeId::of(&name), name.address(), instance.host(), address.host()), (None, None, None, None));
        assert_eq!(name.host().map(|host| TargetId::named(&host)), Some(name));
    }

    #[test]
    fn deserialising_checks_too() {
        assert!(serde_json::from_str::<TargetId>("\"i-0abc1234def567890\"").is_ok());
        let refused = serde_json::from_str::<TargetId>("\"i-xyz\"").unwrap_err().to_string();
        assert!(refused.contains("\"i-xyz\" is not an EC2 instance id"), "{refused}");
    }
}
