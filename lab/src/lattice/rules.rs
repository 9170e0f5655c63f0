//! Every refusal of the stand-in, each with the line of documentation it rests on.
//!
//! `UG` is the VPC Lattice User Guide, `API` its API Reference, `model` the published service model of API version
//! 2022-11-30 (`model.json`). Where AWS documents a limit but not how it answers, the error type is the nearest one
//! that the model lists for the operation; `precaution` marks what no document states and prudent callers respect.

use serde_json::{Map, Value, json};

/// The error types of the API, with their HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 400: the request itself is wrong.
    Validation,
    /// 409: the request does not fit what exists.
    Conflict,
    /// 404: something named does not exist.
    NotFound,
    /// 402: a quota would be exceeded.
    Quota,
    /// 429: too many requests.
    Throttling,
    /// 403: not signed.
    Unsigned,
    /// 500: the stand-in itself could not answer.
    Internal,
}

impl Kind {
    /// The name in the `x-amzn-errortype` header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Validation => "ValidationException",
            Self::Conflict => "ConflictException",
            Self::NotFound => "ResourceNotFoundException",
            Self::Quota => "ServiceQuotaExceededException",
            Self::Throttling => "ThrottlingException",
            Self::Unsigned => "MissingAuthenticationTokenException",
            Self::Internal => "InternalServerException",
        }
    }

    /// The HTTP status the model gives this error.
    pub const fn status(self) -> u16 {
        match self {
            Self::Validation => 400,
            Self::Conflict => 409,
            Self::NotFound => 404,
            Self::Quota => 402,
            Self::Throttling => 429,
            Self::Unsigned => 403,
            Self::Internal => 500,
        }
    }
}

/// What a rule says and where it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Documented {
    /// The error type answered.
    pub kind: Kind,
    /// The rule in our words; the start of the error message.
    pub says: &'static str,
    /// The document and section that states it.
    pub source: &'static str,
}

macro_rules! rules {
    ($($name:ident: $kind:ident, $says:literal, $source:literal;)*) => {
        /// A reason to refuse.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $(#[doc = $says] $name,)*
        }

        impl Rule {
            /// Every rule, for tests that want each one exercised.
            pub const ALL: &[Rule] = &[$(Rule::$name),*];

            /// The rule's text, error type and source.
            pub const fn documented(self) -> Documented {
                match self {
                    $(Self::$name => Documented { kind: Kind::$kind, says: $says, source: $source },)*
                }
            }
        }
    };
}

rules! {
    // The request as such.
    Unsigned: Unsigned, "the request carries no Signature Version 4 authorization for vpc-lattice",
        "API CommonErrors: MissingAuthenticationToken";
    UnknownOperation: Validation, "there is no such operation",
        "API ValidationException reason unknownOperation";
    NotJson: Validation, "the body cannot be parsed",
        "API ValidationException reason cannotParse";
    Shape: Validation, "a parameter breaks the published bounds",
        "model: required members, lengths, ranges, patterns, enumerations and unions of each operation";
    NotAMember: Validation, "a parameter is not a member of the operation; what is create-only cannot be updated",
        "model: members of each operation (UpdateService has no customDomainName, UpdateListener no port or protocol, \
         UpdateTargetGroup only healthCheck)";
    PageToken: Validation, "the pagination token is not one that was handed out",
        "API List operations: nextToken";
    TokenReused: Conflict, "the client token was used before with other parameters",
        "API clientToken: if the parameters aren't identical, the retry fails";
    ReservedTag: Validation, "a tag key may not begin with aws:",
        "model TagMap: keys may not begin with aws:";
    Missing: NotFound, "the resource does not exist",
        "API ResourceNotFoundException";
    Throttled: Throttling, "the rate of requests is too high",
        "API ThrottlingException (request rates are not published; injected on demand)";
    NotKnown: Internal, "the network cannot be looked at",
        "API InternalServerException (the lab's EC2 did not answer)";

    // Names and quotas.
    NameTaken: Conflict, "the name is in use",
        "API CreateService, CreateServiceNetwork, CreateTargetGroup name: unique within the account; \
         CreateListener name: unique within a service";
    NetworkQuota: Quota, "at most 50 service networks",
        "UG quotas: service networks per Region";
    ServiceQuota: Quota, "at most 2,000 services",
        "UG quotas: services per Region";
    GroupQuota: Quota, "at most 500 target groups",
        "UG quotas: target groups per Region";
    ListenerQuota: Quota, "at most 2 listeners per service",
        "UG quotas: listeners per service";
    GroupsPerServiceQuota: Quota, "at most 10 target groups per service",
        "UG quotas: target groups per service";
    TargetQuota: Quota, "at most 1,000 targets per target group",
        "UG quotas: targets per target group";
    ServiceAssociationQuota: Quota, "at most 500 service associations per service network",
        "UG quotas: service associations per service network";
    VpcAssociationQuota: Quota, "at most 500 VPC associations per service network",
        "UG quotas: VPC associations per service network";

    // TLS passthrough.
    TlsNeedsCustomDomain: Validation, "a service with a TLS listener must have a custom domain name",
        "UG tls-listeners, Considerations: the service must have a custom domain name, used as the SNI match";
    TlsOnlyForwards: Validation, "the default action of a TLS listener must be a forward action",
        "UG tls-listeners, Considerations: the default action must be a forward action to a TCP target group";
    TlsOnlyTcpGroups: Validation, "a TLS listener forwards to TCP target groups only",
        "UG tls-listeners, Considerations: the default action must be a forward action to a TCP target group";
    TcpOnlyTlsListeners: Validation, "a TCP target group can be used with TLS listeners only",
        "UG target-groups, Routing configuration: TCP only for TLS listeners";
    TlsOnlyDefaultRule: Validation, "a TLS listener has no rule but the default one",
        "UG tls-listeners, Considerations: the only rule allowed is the default rule";
    NoRules: Validation, "listener rules are not part of the lab",
        "lab: nothing here creates HTTP rules";

    // Listeners.
    PortTaken: Conflict, "the service already listens on this port",
        "UG listeners, Listener configuration: a listener is one protocol and port of its service";
    FixedResponseStatus: Validation, "a fixed response is 404 or 500",
        "API FixedResponseAction statusCode: only 404 and 500";
    ForwardUnknownGroup: NotFound, "the action forwards to a target group that does not exist",
        "API CreateListener errors: ResourceNotFoundException";
    ForwardTwice: Validation, "the action names a target group more than once",
        "precaution: WeightedTargetGroup gives each group one weight";
    GroupServesAnother: Conflict, "the target group is used by another service",
        "API CreateTargetGroup: a target group can only be used by a single service";

    // Services and networks.
    ServiceNotActive: Conflict, "the service is not active",
        "API CreateService status; UG create order: a service is usable once ACTIVE";
    ServiceAssociated: Conflict, "the service is associated with a service network",
        "API DeleteService: a service can't be deleted if it's associated with a service network";
    NetworkInUse: Conflict, "the service network has associations",
        "API DeleteServiceNetwork: only if there is no service or VPC associated with it";
    DomainTaken: Conflict, "the custom domain name is in use inside the service network",
        "UG service-custom-domain-name: must be unique within a service network";

    // Auth policies.
    LogDestination: Validation, "access logs go to an S3 bucket, a CloudWatch log group or a Firehose stream",
        "API CreateAccessLogSubscription destinationArn: the supported destination types";
    PolicyLines: Validation, "an auth policy has no line breaks",
        "API PutAuthPolicy policy: the JSON must not contain newlines or blank lines";
    PolicySize: Validation, "an auth policy has at most 10 KB",
        "UG quotas: auth policy size";
    PolicyMalformed: Validation, "an auth policy is a resource policy: statements with effect, principal, action and resource",
        "UG auth-policies: how auth policies are made";

    // Associations.
    AlreadyAssociated: Conflict, "the service and the service network are associated already",
        "API CreateServiceNetworkServiceAssociation: not if already associated or being deleted";
    VpcAlreadyAssociated: Conflict, "a VPC can be associated with one service network",
        "UG service-network-associations and quotas: one service network per VPC";
    AssociationBusy: Conflict, "the association is being changed",
        "API DeleteServiceNetworkServiceAssociation, DeleteServiceNetworkVpcAssociation: not while in progress";
    SecurityGroupsStay: Validation, "an association keeps at least one security group",
        "API UpdateServiceNetworkVpcAssociation: must continue to have at least one security group";
    ListNeedsFilter: Validation, "the list needs a filter",
        "API ListServiceNetworkServiceAssociations, ListServiceNetworkVpcAssociations: you must provide either";
    UnknownVpc: Validation, "there is no such VPC",
        "API vpcIdentifier: the ID of the VPC";
    UnknownSecurityGroup: Validation, "there is no such security group in the VPC",
        "API CreateServiceNetworkVpcAssociation securityGroupIds; VPC User Guide: a group is usable in its VPC";

    // Target groups.
    GroupConfig: Validation, "instances, addresses and load balancers need a port, a protocol and a VPC",
        "API TargetGroupConfig: not supported for LAMBDA only";
    LambdaConfig: Validation, "a Lambda target group takes no port, protocol, VPC or health check",
        "API TargetGroupConfig: not supported if the target group type is LAMBDA";
    TcpNoLambda: Validation, "TCP target groups do not support Lambda targets",
        "UG tls-listeners, Considerations: Lambda targets are not supported";
    TcpNoProtocolVersion: Validation, "a TCP target group takes no protocol version",
        "aws-application-networking-k8s pull request 643: omitted for TCP";
    AddressTypeOnlyForIp: Validation, "ipAddressType is for target groups of type IP",
        "API TargetGroupConfig ipAddressType: supported only if the type is IP";
    HealthCheckProtocol: Validation, "health checks use HTTP or HTTPS",
        "API HealthCheckConfig protocol: the possible protocols are HTTP and HTTPS";
    TcpHealthCheckExplicit: Validation, "health checks of a TCP target group need a protocol and a protocol version",
        "UG tls-listeners, Considerations: you must specify a protocol and protocol version";
    HealthCheckRange: Validation, "a health check setting is out of its range",
        "API HealthCheckConfig: interval 5-300, timeout 1-120, thresholds 2-10, codes 200-499; 0 resets";
    HealthCheckNotForAlb: Validation, "health checks are not used for load balancers",
        "API HealthCheckConfig: not used for target groups of type LAMBDA or ALB";
    GroupInUse: Conflict, "the target group is used by a listener",
        "API DeleteTargetGroup: not if it is used in a listener rule";
    GroupNotActive: Conflict, "the target group is not active",
        "API DeleteTargetGroup: not while creation is in progress; the same for registering (k8s controller retries)";
    GroupHasTargets: Conflict, "the target group still has targets",
        "precaution: the k8s controller deregisters every target before it deletes a group";

    // Targets: answered inside a 200, as unsuccessful.
    TargetUnknown: Validation, "the target does not exist",
        "API RegisterTargets: unsuccessful; Target id is an instance ID or an IP address";
    TargetNotRunning: Validation, "the instance is not running",
        "UG register-targets: an instance must be in the running state when you register it";
    TargetElsewhere: Validation, "the target is not in the target group's VPC",
        "UG register-targets: targets must be in the VPC of the target group";
    TargetFamily: Validation, "the address is of another family than the target group",
        "API TargetGroupConfig ipAddressType: the type of IP address used for the target group";
    TargetNotRegistered: Validation, "the target is not registered",
        "API DeregisterTargets: unsuccessful are the targets that could not be deregistered";
}

impl Rule {
    /// The code a person finds in messages and in `failureCode`.
    pub fn code(self) -> String {
        format!("{self:?}")
    }
}

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Why.
    pub rule: Rule,
    /// What exactly, in a few words.
    pub detail: String,
    /// The kind and id of the resource concerned, for errors that have to name one.
    pub resource: (&'static str, String),
    /// Field and message, for validation errors.
    pub fields: Vec<(String, String)>,
    /// Seconds after which a throttled caller may try again.
    pub retry_after_s: Option<u32>,
}

impl Fault {
    /// A refusal that concerns the request.
    pub fn new(rule: Rule, detail: impl Into<String>) -> Self {
        let (resource, fields) = (("UNKNOWN", String::new()), Vec::new());
        Self { rule, detail: detail.into(), resource, fields, retry_after_s: None }
    }

    /// A refusal that concerns one field of the request.
    pub fn field(rule: Rule, field: &str, detail: impl Into<String>) -> Self {
        let fault = Self::new(rule, detail);
        Self { fields: vec![(field.to_owned(), fault.message())], ..fault }
    }

    /// A refusal that concerns a resource.
    pub fn about(rule: Rule, kind: &'static str, id: &str) -> Self {
        Self { resource: (kind, id.to_owned()), ..Self::new(rule, format!("{kind} {id}")) }
    }

    /// What a caller reads: the rule, what exactly, and the code to look it up by.
    pub fn message(&self) -> String {
        format!("{}: {} [{}]", self.rule.documented().says, self.detail, self.rule.code())
    }

    /// The body of the answer, with the members that the model requires of the error type.
    pub fn body(&self) -> Value {
        let mut body = Map::from_iter([("message".to_owned(), Value::from(self.message()))]);
        match self.rule.documented().kind {
            Kind::Validation => {
                let reason = if self.rule == Rule::UnknownOperation {
                    "unknownOperation"
                } else if self.rule == Rule::NotJson {
                    "cannotParse"
                } else if self.fields.is_empty() {
                    "other"
                } else {
                    "fieldValidationFailed"
                };
                let fields = self.fields.iter().map(|(name, message)| json!({"name": name, "message": message}));
                body.insert("reason".into(), reason.into());
                body.insert("fieldList".into(), fields.collect());
            }
            Kind::Conflict | Kind::NotFound => {
                body.insert("resourceType".into(), self.resource.0.into());
                body.insert("resourceId".into(), self.resource.1.clone().into());
            }
            Kind::Quota => {
                body.insert("resourceType".into(), self.resource.0.into());
                body.insert("serviceCode".into(), "vpc-lattice".into());
                // The real codes (L-...) are not in the documentation that was read.
                body.insert("quotaCode".into(), self.rule.code().into());
            }
            Kind::Throttling => {
                body.insert("serviceCode".into(), "vpc-lattice".into());
            }
            Kind::Unsigned | Kind::Internal => {}
        }
        Value::Object(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_names_its_source() {
        for rule in Rule::ALL {
            let documented = rule.documented();
            assert!(documented.source.len() > 10 && documented.says.len() > 10, "{rule:?}");
            let known = ["UG ", "API ", "model", "aws-application", "precaution", "lab"];
            assert!(known.iter().any(|start| documented.source.starts_with(start)), "{rule:?}: {}", documented.source);
        }
    }

    #[test]
    fn a_conflict_names_its_resource_and_a_validation_its_fields() {
        let conflict = Fault::about(Rule::ServiceAssociated, "SERVICE", "svc-1").body();
        assert_eq!((&conflict["resourceType"], &conflict["resourceId"]), (&json!("SERVICE"), &json!("svc-1")));
        let validation = Fault::field(Rule::HealthCheckProtocol, "healthCheck.protocol", "TCP").body();
        assert_eq!(validation["reason"], "fieldValidationFailed");
        assert_eq!(validation["fieldList"][0]["name"], "healthCheck.protocol");
        assert!(validation["message"].as_str().unwrap().ends_with("[HealthCheckProtocol]"));
    }
}
