//! The table of the spec, and reading a document with it.

use serde_json::{Value, json};

use super::shape::{Shape, check, needed, optional};
use super::{AllowedDomains, Spec, SpecError, SpecErrors, auth, rules, shape};
use crate::authority::LONGEST_LEAF;
use crate::id::{
    AcmArn, HostName, HostedZoneId, LogDestination, NodeId, ProberName, SecurityGroupId, ServiceId, ServiceNetworkRef,
    StackName, SubnetId, TargetGroupId, TargetId, VpcId,
};
use crate::rotation::calendar::TimeOfDay;

macro_rules! id {
    ($type:ident, $expected:literal, $pattern:literal) => {
        Shape::Text { accepts: |text| $type::parse(text).is_ok(), expected: $expected, pattern: $pattern }
    };
}

const STACK: Shape = id!(
    StackName,
    "3 to 24 lower-case letters, digits and single inner hyphens, starting with a letter",
    "^(?!svc-|tg-|sn-|servicenetwork-|listener-)(?!.*--)[a-z][a-z0-9-]{1,22}[a-z0-9]$"
);
const VPC: Shape = id!(VpcId, "a VPC id", "^vpc-([0-9a-f]{8}|[0-9a-f]{17})$");
const SUBNET: Shape = id!(SubnetId, "a subnet id", "^subnet-([0-9a-f]{8}|[0-9a-f]{17})$");
const GROUP: Shape = id!(SecurityGroupId, "a security group id", "^sg-([0-9a-f]{8}|[0-9a-f]{17})$");
const INSTANCE: Shape = Shape::Text {
    accepts: |text| TargetId::parse(text).is_ok_and(|id| NodeId::of(&id).is_some()),
    expected: "an EC2 instance id",
    pattern: "^i-([0-9a-f]{8}|[0-9a-f]{17})$",
};
const ADDRESS: Shape = Shape::Text {
    accepts: |text| TargetId::parse(text).is_ok_and(|id| id.address().is_some()),
    expected: "an IPv4 or IPv6 address as it is usually written, such as 10.0.1.5 or fd12::5",
    // Which of the strings with colons is an IPv6 address, no pattern of bearable length says.
    pattern: concat!(
        "^(((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])",
        "|[0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,7})$"
    ),
};
const PROBER_NAME: Shape = id!(
    ProberName,
    "1 to 24 lower-case letters, digits and single inner hyphens, starting with a letter",
    "^(?!.*--)[a-z]([a-z0-9-]{0,22}[a-z0-9])?$"
);
const NODE: Shape =
    id!(NodeId, "a managed node's id, i-... or mi-...", "^(i-([0-9a-f]{8}|[0-9a-f]{17})|mi-[0-9a-f]{17})$");
const SERVICE_ID: Shape = id!(ServiceId, "a VPC Lattice service id", "^svc-[0-9a-z]{17}$");
const TARGET_GROUP: Shape = id!(TargetGroupId, "a VPC Lattice target group id", "^tg-[0-9a-z]{17}$");
const SERVICE_NETWORK: Shape = id!(
    ServiceNetworkRef,
    "a VPC Lattice service network's id or ARN",
    "^(arn:aws[a-z0-9-]*:vpc-lattice:[a-z0-9-]+:[0-9]{12}:servicenetwork/)?sn-[0-9a-z]{17}$"
);
const ZONE: Shape = id!(HostedZoneId, "a hosted zone id", "^[A-Z0-9]{1,32}$");
const HOST: Shape = id!(
    HostName,
    "a lower-case DNS host name of at least two labels, without wildcard or trailing dot",
    "^(?=.{1,253}$)(?!.*\\.[0-9]+$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
);
const CERTIFICATE: Shape =
    id!(AcmArn, "an ACM certificate ARN", "^arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/[A-Za-z0-9-]+$");
const LOGS: Shape = id!(
    LogDestination,
    "the ARN of an S3 bucket, a CloudWatch log group or a Firehose stream (arn:aws:s3:::NAME, \
     arn:aws:logs:REGION:ACCOUNT:log-group:NAME, arn:aws:firehose:REGION:ACCOUNT:deliverystream/NAME)",
    "^arn:aws[a-z-]*:(s3:::[a-z0-9.-]{3,63}|(logs:[a-z0-9-]+:[0-9]{12}:log-group:[A-Za-z0-9_/.#-]{1,512}(:\\*)?|firehose:[a-z0-9-]+:[0-9]{12}:deliverystream/[A-Za-z0-9_.-]{1,64}))$"
);
const WORDS: Shape = Shape::Text {
    accepts: |text| (1..=256).contains(&text.chars().count()) && !text.chars().any(char::is_control),
    expected: "1 to 256 printable characters",
    pattern: "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,256}$",
};
const PATH: Shape = Shape::Text {
    accepts: |text| text.starts_with('/') && text.len() <= 2048 && text.bytes().all(|b| b.is_ascii_graphic()),
    expected: "a path that starts with / (at most 2,048 visible ASCII characters)",
    pattern: "^/[!-~]{0,2047}$",
};
const CODES: Shape = Shape::Text {
    accepts: status_codes,
    expected: "status codes from 200 to 499, such as 200, 200-299 or 200,204",
    pattern: "^[2-4][0-9]{2}(-[2-4][0-9]{2})?(,[2-4][0-9]{2}(-[2-4][0-9]{2})?)*$",
};
const RESOLVER: Shape = Shape::Text {
    accepts: address_and_port,
    expected: "an address and port, such as 10.0.0.2:53",
    // Which of the strings in brackets is an IPv6 address, no pattern of bearable length says.
    pattern: concat!(
        "^(((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])",
        "|\\[[0-9A-Fa-f:.]+\\])",
        ":([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$"
    ),
};
const PORT: Shape = Shape::Number(1..=65_535);

const SPEC: Shape = Shape::Object(&[
    optional("$schema", WORDS, "where the schema of this file is; for editors"),
    needed("version", Shape::Number(1..=1), "the version of this format: 1"),
    needed("stack", STACK, "the stack's name; the last segment of the parameter's name, too"),
    needed("owner", WORDS, "who answers for the stack; named in every event"),
    optional("notify", Shape::List { of: &WORDS, count: 0..=10 }, "whom to notify beside the owner"),
    optional("manage", Shape::Word { now: &["stack", "rotation", "nothing"], later: &[] }, "how much is Espalier's"),
    optional("lattice", GIVEN, "the Lattice estate that somebody else manages; exactly with manage rotation"),
    optional("state", Shape::Word { now: &["present", "absent"], later: &[] }, "whether the stack shall exist"),
    optional(
        "drift",
        Shape::Word { now: &["repair", "report"], later: &[] },
        "what becomes of changes that others make to what is Espalier's; repaired if left out",
    ),
    optional("deletionProtection", Shape::Truth, "whether state absent is refused; true if left out"),
    needed("network", NETWORK, "the existing VPCs the stack lives in"),
    needed("service", SERVICE, "what clients see"),
    needed("targets", TARGETS, "who serves"),
    needed("certificate", LEAF, "what the targets prove themselves with"),
    optional("rollout", ROLLOUT, "how a new certificate reaches the targets"),
    optional("healthCheck", HEALTH, "what VPC Lattice checks by itself; off if left out"),
    needed("prober", PROBER, "who verifies"),
]);

const NETWORK: Shape = Shape::Object(&[
    needed("vpcId", VPC, "the targets' VPC"),
    needed("subnetIds", Shape::List { of: &SUBNET, count: 1..=50 }, "the targets' subnets"),
    optional("serviceNetworkId", SERVICE_NETWORK, "a service network to use in place of one of the stack's own"),
    optional("consumers", Shape::List { of: &CONSUMER, count: 0..=50 }, CONSUMERS),
]);

const CONSUMERS: &str = "the VPCs whose clients may use the service; may be left out with serviceNetworkId";

const GIVEN: Shape = Shape::Object(&[
    needed("serviceId", SERVICE_ID, "the service"),
    needed("targetGroupIds", Shape::List { of: &TARGET_GROUP, count: 1..=10 }, "its TLS listener's target groups"),
]);

const CONSUMER: Shape = Shape::Object(&[
    needed("vpcId", VPC, "the VPC to associate with the service network"),
    needed(
        "securityGroupIds",
        Shape::List { of: &GROUP, count: 1..=5 },
        "the association's security groups; without one everything in the VPC may connect",
    ),
]);

const SERVICE: Shape = Shape::Object(&[
    needed("domainName", HOST, "the custom domain, matched exactly against the server name clients send"),
    needed("port", PORT, "the listener's port"),
    optional("idleTimeoutSeconds", Shape::Number(60..=600), "how long a connection may be idle; 60 if left out"),
    optional("authPolicy", auth::POLICY, "who may connect, by VPC, its owner, network and port; everybody if left out"),
    optional(
        "accessLogs",
        Shape::Object(&[needed("destinationArn", LOGS, "an S3 bucket, a CloudWatch log group or a Firehose stream")]),
        "where the service's access logs go; nowhere if left out",
    ),
    needed(
        "dns",
        Shape::OneOf {
            fields: &[
                optional("hostedZoneId", ZONE, "an existing hosted zone"),
                optional(
                    "hostedZoneName",
                    HOST,
                    "the name of the one private hosted zone that the consumers' VPCs have of it",
                ),
                optional(
                    "privateZone",
                    Shape::Object(&[needed(
                        "name",
                        HOST,
                        "the zone's name: the domain name, or a domain that it is in",
                    )]),
                    "a private hosted zone of the stack's own: made, kept in the consumers' VPCs, deleted with the stack",
                ),
            ],
            refused: |_| None,
        },
        "where it is published",
    ),
]);

const TARGETS: Shape = Shape::Object(&[
    needed("port", PORT, "where the targets serve TLS"),
    needed("securityGroupId", GROUP, "the targets' group in which Espalier keeps its ingress rules"),
    optional(
        "rulesPerGroup",
        Shape::Number(60..=1000),
        "how many inbound rules a security group may have, where the account's quota was raised; 60 if left out",
    ),
    optional(
        "targetsPerGroup",
        Shape::Number(1..=10_000),
        "how many targets a target group takes; 1000, the quota that an account begins with, if left out",
    ),
    needed(
        "select",
        Shape::OneOf {
            fields: &[
                optional("instanceIds", Shape::List { of: &INSTANCE, count: 1..=1000 }, "these instances"),
                optional(
                    "tag",
                    Shape::Object(&[needed("key", TAG, "the tag's key"), needed("value", TAG, "the tag's value")]),
                    "all instances with this tag",
                ),
                optional(
                    "autoScalingGroups",
                    Shape::List { of: &SCALING_GROUP, count: 1..=20 },
                    "all instances of these Auto Scaling groups; attach no target group to them",
                ),
                optional(
                    "addresses",
                    Shape::List { of: &ADDRESS_TARGET, count: 1..=1000 },
                    "whatever answers at these addresses, all IPv4 or all IPv6",
                ),
                optional(
                    "hosts",
                    Shape::List { of: &HOST, count: 1..=50 },
                    "where others install, whatever answers to these names: each address that a name leads to is dialled",
                ),
            ],
            refused: not_selected,
        },
        "who they are",
    ),
    optional(
        "minimumInService",
        Shape::Number(0..=1000),
        "a target that fails verification is drained only while so many others serve; 1 if left out",
    ),
]);

const ADDRESS_TARGET: Shape = Shape::Object(&[
    needed("address", ADDRESS, "where it serves, in one of network.subnetIds"),
    optional("node", NODE, "the managed node that answers there and is installed on; left out, it is only looked at"),
]);

/// Why what is no server of ours cannot be selected (docs/decisions/0021-no-load-balancer.md).
fn not_selected(name: &str) -> Option<&'static str> {
    match name {
        "ipAddresses" | "ips" => Some("is written \"addresses\": a list of {\"address\": ..., \"node\": ...}"),
        "loadBalancerArn" | "loadBalancer" | "loadBalancers" | "alb" => Some(
            "cannot be selected: an Application Load Balancer ends TLS itself, with an ACM certificate that ACM renews in \
             place, so that there is no leaf to rotate and no target to prove (VPC Lattice takes one of them, without health \
             checks, in a target group of type ALB). Select the servers behind it, or put the load balancer behind an HTTPS \
             listener, without Espalier; what it serves can be watched by its DNS name (\"hosts\", with manage nothing)",
        ),
        _ => None,
    }
}

const TAG: Shape = Shape::Text {
    accepts: |text| (1..=128).contains(&text.chars().count()) && !text.chars().any(char::is_control),
    expected: "1 to 128 printable characters",
    pattern: "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,128}$",
};

/// A group's name (`XmlStringMaxLen255` in the Auto Scaling API reference), without the colon that the API refuses.
const SCALING_GROUP: Shape = Shape::Text {
    accepts: |text| (1..=255).contains(&text.chars().count()) && !text.chars().any(|c| c.is_control() || c == ':'),
    expected: "the name of an Auto Scaling group",
    pattern: "^[^\\u0000-\\u001f\\u007f-\\u009f:]{1,255}$",
};

const LEAF: Shape = Shape::Object(&[
    optional(
        "issuer",
        Shape::Object(&[
            needed("kind", Shape::Word { now: &["authority", "acm", "others"], later: &["kms", "privateCa"] }, WHO),
            optional(
                "certificateArn",
                CERTIFICATE,
                "the ACM certificate that is exported; with kind acm, or request. With kind others, the one they install",
            ),
            optional("request", REQUEST, "asks Espalier to obtain the certificate; with kind acm, or certificateArn"),
            optional("trust", TRUST, "what their chain has to lead to; with kind others"),
        ]),
        "who signs; the control plane's own authority if left out",
    ),
    optional(
        "custody",
        Shape::Object(&[needed("kind", Shape::Word { now: &["parameterStore", "target"], later: &[] }, WHERE)]),
        "where the key is made and kept: parameterStore: minted, in a SecureString; target: on the host that serves it; where scope says it if left out, that is, parameterStore where it is shared",
    ),
    optional(
        "scope",
        Shape::Word { now: &["shared", "target"], later: &[] },
        "shared: all targets have one certificate; target: each has its own, with a key of its own; shared if left out",
    ),
    needed("dnsNames", Shape::List { of: &HOST, count: 1..=10 }, "the names in the certificate"),
    optional(
        "keyType",
        Shape::Word {
            now: &["EC_prime256v1", "EC_secp384r1", "RSA_2048", "RSA_3072", "RSA_4096", "Ed25519"],
            later: &[],
        },
        "the kind of key; EC_prime256v1 if left out",
    ),
    optional(
        "validityHours",
        Shape::Number(1..=LONGEST_LEAF.whole_hours().unsigned_abs()),
        "how long a leaf lives; required unless ACM decides",
    ),
    needed("renewBeforeHours", Shape::Number(1..=719), "how long before its end a leaf is replaced"),
    optional(
        "renewSpreadPercent",
        Shape::Number(0..=25),
        "up to which part of its life earlier, so that stacks do not all renew at once; 5 if left out",
    ),
    optional(
        "follow",
        Shape::Object(&[
            needed("certificateArn", CERTIFICATE, "the ACM certificate"),
            optional("expiringDays", Shape::Number(1..=90), "how many days before its end it counts as expiring"),
        ]),
        "an ACM certificate whose renewal or approaching expiry makes the leaves due",
    ),
]);

const REQUEST: Shape = Shape::Object(&[needed(
    "hostedZoneId",
    ZONE,
    "the public hosted zone of all the names; the validation records are written there and kept",
)]);

const WHO: &str = "authority, acm for a certificate that is exported from there, or others who install it themselves";
const TRUST: Shape = Shape::Text {
    accepts: |text| matches!(text, "public" | "authority") || is_pem(text),
    expected: "public, authority, or one or more certificates in PEM and nothing else",
    // Which of the texts in Base64 is a certificate, no pattern says.
    pattern: concat!(
        "^(public|authority|",
        "(-----BEGIN CERTIFICATE-----[\\r\\n]+M[A-Za-z0-9+/=\\r\\n]+-----END CERTIFICATE-----[\\r\\n]*)+)$"
    ),
};
const WHERE: &str = "parameterStore";

const ROLLOUT: Shape = Shape::Object(&[
    optional("canary", Shape::Number(1..=50), "how many targets prove a new certificate first; 1 if left out"),
    optional("bakeMinutes", Shape::Number(0..=10_080), "how long the canary has to have served it; 0 if left out"),
    optional("waveSize", Shape::Number(1..=50), "how many targets follow at a time; 10 if left out"),
    optional("wavePercent", Shape::Number(1..=100), "the same in percent of all targets; not beside waveSize"),
    optional(
        "minimumHealthyPercent",
        Shape::Number(1..=99),
        "how many percent of the targets have to be well, untouched, while others are changed; none if left out",
    ),
    optional("failureBudget", Shape::Number(0..=1000), "how many may fail before nothing new starts; 0 if left out"),
    optional(
        "confirm",
        Shape::Word { now: &["canary", "all", "never"], later: &[] },
        "which targets go back by themselves unless they are told that the new certificate was seen; canary if left out",
    ),
    optional("confirmSeconds", Shape::Number(20..=9999), "after how long they do; 1800 if left out"),
    optional(
        "windows",
        Shape::List { of: &WINDOW, count: 0..=20 },
        "when rollouts may begin and go on, in UTC; always if left out",
    ),
    optional("freezes", Shape::List { of: &FREEZE, count: 0..=20 }, "when they may not"),
    optional(
        "safetyMarginHours",
        Shape::Number(1..=718),
        "how long before the end of what is served windows and freezes no longer count; half of renewBeforeHours if left out",
    ),
]);

const WINDOW: Shape = Shape::Object(&[
    optional("days", Shape::List { of: &DAY, count: 1..=7 }, "on which days it opens; every day if left out"),
    needed("from", TIME_OF_DAY, "when it opens"),
    needed("to", TIME_OF_DAY, "when it closes; not later than from means on the next day"),
]);

const DAY: Shape = Shape::Word { now: &["mon", "tue", "wed", "thu", "fri", "sat", "sun"], later: &[] };

const FREEZE: Shape =
    Shape::Object(&[needed("from", MOMENT, "its first moment"), needed("to", MOMENT, "the moment after it")]);

const TIME_OF_DAY: Shape = Shape::Text {
    accepts: |text| TimeOfDay::parse(text).is_some(),
    expected: "a time of day in UTC from 00:00 to 23:59",
    pattern: "^([01][0-9]|2[0-3]):[0-5][0-9]$",
};
const MOMENT: Shape = Shape::Text {
    accepts: rules::is_moment,
    expected: "a moment in UTC such as 2026-12-20T00:00:00Z",
    pattern: "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$",
};

const HEALTH: Shape = Shape::Object(&[
    needed("enabled", Shape::Truth, "whether VPC Lattice checks"),
    optional(
        "protocol",
        Shape::Refusing {
            now: &["HTTP", "HTTPS"],
            refused: &[("TCP", "is no health check of a TCP target group (VPC Lattice takes HTTP and HTTPS only)")],
        },
        "HTTP or HTTPS; HTTPS if left out",
    ),
    optional("protocolVersion", Shape::Word { now: &["HTTP1", "HTTP2"], later: &[] }, "HTTP1 if left out"),
    optional("port", PORT, "the traffic port if left out"),
    optional("path", PATH, "/ if left out"),
    optional("intervalSeconds", Shape::Number(5..=300), "30 if left out"),
    optional("timeoutSeconds", Shape::Number(1..=120), "5 if left out"),
    optional("healthyThreshold", Shape::Number(2..=10), "5 if left out"),
    optional("unhealthyThreshold", Shape::Number(2..=10), "2 if left out"),
    optional("codes", CODES, "200 if left out"),
]);

const PROBER: Shape = Shape::Object(&[
    optional("name", PROBER_NAME, "the prober of prober.yaml that verifies; the control plane's own if left out"),
    needed("securityGroupId", GROUP, "the prober's security group, admitted to the targets' port"),
    optional("samples", Shape::Number(0..=20), "connections sampled through the service; 6 if left out"),
    optional("resolver", RESOLVER, "a resolver to ask in place of the VPC's own"),
]);

pub(super) fn parse(text: &str, allowed: &AllowedDomains) -> Result<Spec, SpecErrors> {
    let document: Value = serde_json::from_str(text).map_err(|error| whole(&format!("is not JSON: {error}")))?;
    let mut errors = Vec::new();
    check(&SPEC, &document, "", &mut errors);
    // With a mistake in the shape there is no typed spec, but what can be compared is compared all the same.
    rules::check(&document, allowed, &mut errors);
    if !errors.is_empty() {
        errors.sort_by(|a, b| a.path.cmp(&b.path));
        return Err(SpecErrors(errors));
    }
    let spec: Spec = serde_json::from_value(document.clone()).map_err(|error| whole(&error.to_string()))?;
    Ok(spec.with_hash_of(&document))
}

pub(super) fn fields() -> Vec<String> {
    shape::leaves(&SPEC)
}

pub(super) fn schema() -> Value {
    let mut schema = shape::schema(&SPEC);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    // What `rules::presence` says, in the schema's words.
    schema["if"] = json!({"properties": {"manage": {"const": "rotation"}}, "required": ["manage"]});
    let no_zone = json!({"properties": {"dns": {"not": {"required": ["privateZone"]}}}});
    schema["then"] = json!({"required": ["lattice"], "properties": {"service": no_zone}});
    schema["else"] = json!({"not": {"required": ["lattice"]}});
    let network = &mut schema["properties"]["network"];
    network["if"] = json!({"required": ["serviceNetworkId"]});
    network["else"] = json!({"required": ["consumers"], "properties": {"consumers": {"minItems": 1}}});
    // What `rules::source` says.
    let is_acm = json!({"properties": {"kind": {"const": "acm"}}, "required": ["kind"]});
    let is_others = json!({"properties": {"kind": {"const": "others"}}, "required": ["kind"]});
    let leaf = &mut schema["properties"]["certificate"];
    leaf["if"] = json!({"properties": {"issuer": {"anyOf": [is_acm, is_others]}}, "required": ["issuer"]});
    let ours = ["validityHours", "keyType", "follow"].map(|field| json!({"required": [field]}));
    let each = json!({"properties": {"scope": {"const": "target"}}, "required": ["scope"]});
    leaf["then"] = json!({"not": {"anyOf": ours.into_iter().chain([each.clone()]).collect::<Vec<_>>()}});
    leaf["else"] = json!({"required": ["validityHours"]});
    // What `rules::custody` says.
    let own_keys =
        json!({"properties": {"custody": {"properties": {"kind": {"const": "target"}}}}, "required": ["custody"]});
    leaf["allOf"] = json!([{"if": own_keys, "then": each}]);
    let issuer = &mut leaf["properties"]["issuer"];
    let [arn, request, trust] = ["certificateArn", "request", "trust"].map(|field| json!({"required": [field]}));
    issuer["if"] = is_acm;
    issuer["then"] = json!({"oneOf": [arn, request], "not": trust});
    issuer["else"] = json!({
        "if": is_others,
        "then": {"required": ["trust"], "not": request},
        "else": {"not": {"anyOf": [arn, request, trust]}},
    });
    // What `rules::others` says.
    schema["allOf"] = json!([{
        "if": {"properties": {"certificate": {"properties": {"issuer": is_others}, "required": ["issuer"]}}},
        "then": {"properties": {"manage": {"const": "nothing"}}, "required": ["manage"]},
    }]);
    schema["title"] = json!("Espalier stack");
    schema["description"] = json!("One VPC Lattice TLS-passthrough stack and the life of its targets' certificates.");
    schema
}

fn whole(problem: &str) -> SpecErrors {
    let remedy = "write one JSON object as the schema describes".to_owned();
    SpecErrors(vec![SpecError { path: String::new(), problem: problem.to_owned(), remedy }])
}

/// Certificates in PEM (RFC 7468), one after the other, and nothing beside them: above all no key. Each is a DER sequence of
/// more than 127 bytes, whose Base64 begins with `M`.
fn is_pem(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let body = rest
            .strip_prefix("-----BEGIN CERTIFICATE-----")
            .and_then(|rest| rest.split_once("-----END CERTIFICATE-----"));
        let Some((body, after)) = body else { return false };
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'\r' | b'\n');
        if !body.starts_with(['\r', '\n']) || !body.trim_start().starts_with('M') || !body.bytes().all(is_base64) {
            return false;
        }
        rest = after.trim_start_matches(['\r', '\n']);
    }
    !text.is_empty()
}

/// An address and a port other than 0, each written as it is read: no leading zeros, no zone.
fn address_and_port(text: &str) -> bool {
    let address = text.parse::<std::net::SocketAddr>();
    address.is_ok_and(|address| {
        address.port() > 0 && text.ends_with(&format!(":{}", address.port())) && !text.contains('%')
    })
}

/// Codes and ranges of codes, separated by commas, within 200 to 499 (`Matcher` in the VPC Lattice API reference).
fn status_codes(text: &str) -> bool {
    let code = |text: &str| {
        (text.len() == 3).then(|| text.parse::<u16>().ok()).flatten().filter(|code| (200..=499).contains(code))
    };
    text.split(',').all(|part| match part.split_once('-') {
        Some((from, to)) => matches!((code(from), code(to)), (Some(from), Some(to)) if from <= to),
        None => code(part).is_some(),
    })
}
