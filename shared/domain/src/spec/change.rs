//! What becomes of a change, field by field. `docs/changes.md` is printed from this table, and a test holds it to the
//! spec's fields and to what the planner does when each of them is changed.

use std::fmt::Write as _;

use Change::{InPlace, Refused, Replaced};

/// What becomes of a changed field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It takes effect on what is there.
    InPlace,
    /// AWS cannot change it in place: a new resource takes the place of the old one, which goes last.
    Replaced,
    /// Nothing is done; a block or a mistake in the spec says what to do.
    Refused,
}

/// A field and what becomes of its change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldChange {
    /// The field, as a JSON pointer; `*` is any place of a list.
    pub field: &'static str,
    /// What becomes of its change.
    pub change: Change,
    /// How, and at what cost.
    pub how: &'static str,
}

const fn row(field: &'static str, change: Change, how: &'static str) -> FieldChange {
    FieldChange { field, change, how }
}

/// Every field of the spec, in its order.
pub const CHANGES: &[FieldChange] = &[
    row("/$schema", InPlace, "ignored"),
    row("/version", Refused, "there is one version of the format"),
    row(
        "/stack",
        Refused,
        "it is the last segment of the parameter's name: a spec under another name is another stack",
    ),
    row("/owner", InPlace, "named in the next event"),
    row("/notify", InPlace, "named in the next event"),
    row(
        "/manage",
        InPlace,
        "decides what is looked at and changed from the next look on; nothing is deleted when it is narrowed",
    ),
    row(
        "/lattice/serviceId",
        InPlace,
        "the other estate is checked from the next look on; nothing of either is changed",
    ),
    row("/lattice/targetGroupIds", InPlace, "the other groups are checked from the next look on; nothing is changed"),
    row("/state", InPlace, "`absent` takes the stack down, `present` makes it again"),
    row("/drift", InPlace, "decides what becomes of the next difference"),
    row("/deletionProtection", InPlace, "decides whether `state: absent` is obeyed"),
    row(
        "/network/vpcId",
        Replaced,
        "target group: a new one beside the old one, clients moved by weight, no gap; the selected instances must be in the new VPC",
    ),
    row("/network/subnetIds", InPlace, "checked at the next look"),
    row(
        "/network/serviceNetworkId",
        Refused,
        "moving a service to another network cuts its clients off. Make a second stack in the other network, move the clients, take this one down",
    ),
    row(
        "/network/consumers/*/vpcId",
        InPlace,
        "a new VPC is associated, one that is gone is dissociated: its clients lose the service",
    ),
    row(
        "/network/consumers/*/securityGroupIds",
        InPlace,
        "`UpdateServiceNetworkVpcAssociation`; the list cannot be emptied (VPC Lattice), so a spec has 1 to 5",
    ),
    row(
        "/service/domainName",
        Refused,
        "VPC Lattice cannot change a service's custom domain. Make a second stack with the new name in this one's network (`serviceNetworkId`), move the clients, take this one down under its own name: network and VPC associations stay while the other uses them. Or take this one down first, at the cost of an outage of some minutes",
    ),
    row(
        "/service/port",
        Replaced,
        "listener: the new port opens beside the old one, which closes ten minutes later; clients that still use it then fail",
    ),
    row("/service/idleTimeoutSeconds", InPlace, "`UpdateService`; left out again, it is set back to 60"),
    row(
        "/service/authPolicy",
        InPlace,
        "`PutAuthPolicy`; left out again, the service asks for no authorization; takes minutes",
    ),
    row(
        "/service/accessLogs/destinationArn",
        InPlace,
        "`UpdateAccessLogSubscription`; to a destination of another kind a new subscription is made before the old one goes; left out again, it is deleted",
    ),
    row(
        "/service/dns/hostedZoneId",
        InPlace,
        "the record is written in the new zone first, then the one in the former zone goes",
    ),
    row("/service/dns/hostedZoneName", InPlace, "as a changed hostedZoneId, should it lead to another zone"),
    row(
        "/service/dns/privateZone/name",
        InPlace,
        "as a changed hostedZoneId; the zone is made first and the former one, if it is the stack's own, deleted last. Where one zone's name is within the other's, new lookups in the VPC that comes first by its id may fail for as long as the narrower zone is without the record, and resolvers may remember that for 15 minutes",
    ),
    row(
        "/targets/port",
        Replaced,
        "target group: a new one beside the old one, clients moved by weight, no gap; targets serve both ports meanwhile",
    ),
    row(
        "/targets/securityGroupId",
        InPlace,
        "rules are added to the new group and taken out of the former one; instances have to carry the new one before, or clients cannot reach them",
    ),
    row("/targets/rulesPerGroup", InPlace, "counted with at the next look"),
    row(
        "/targets/targetsPerGroup",
        Replaced,
        "target groups: new ones beside the old ones, in which everybody is placed anew; clients moved by weight, no gap",
    ),
    row(
        "/targets/select/instanceIds",
        InPlace,
        "who is new is registered once it is proven, then who is left out is deregistered; the last target stays",
    ),
    row("/targets/select/tag/key", InPlace, "as a changed list of instances"),
    row("/targets/select/tag/value", InPlace, "as a changed list of instances"),
    row("/targets/select/autoScalingGroups", InPlace, "as a changed list of instances"),
    row(
        "/targets/select/addresses/*/address",
        InPlace,
        "as a changed list of instances. From instances to addresses, from IPv4 to IPv6, and back, the target group is replaced as for another port",
    ),
    row("/targets/select/addresses/*/node", InPlace, "holds for the next installation"),
    row("/targets/select/hosts", InPlace, "who is new is dialled at the next look"),
    row("/targets/minimumInService", InPlace, "holds for the next target that fails verification"),
    row("/certificate/issuer/kind", InPlace, "the next generation comes from there, at once"),
    row(
        "/certificate/issuer/certificateArn",
        InPlace,
        "the other certificate is exported and rolled out at once; of kind `others`, what is served is compared with it",
    ),
    row(
        "/certificate/issuer/request/hostedZoneId",
        InPlace,
        "the validation records are written in the new zone; those in the former one stay",
    ),
    row("/certificate/issuer/trust", InPlace, "what is seen from the next handshake on is judged by it"),
    row(
        "/certificate/custody/kind",
        InPlace,
        "a new generation is made at once and rolled out: of keys from the control plane, or of keys made on the targets",
    ),
    row(
        "/certificate/scope",
        InPlace,
        "a new generation is made at once and rolled out: of one certificate for all, or of one for each target",
    ),
    row(
        "/certificate/dnsNames",
        InPlace,
        "new leaves are minted and rolled out; nothing in VPC Lattice changes. With `issuer.request` another certificate is requested and the former one stays in ACM",
    ),
    row("/certificate/keyType", InPlace, "of the next leaf; with `issuer.request` another certificate is requested"),
    row("/certificate/validityHours", InPlace, "of the next leaf"),
    row("/certificate/renewBeforeHours", InPlace, "may make leaves due at the next look"),
    row("/certificate/renewSpreadPercent", InPlace, "may make leaves due at the next look"),
    row("/certificate/follow/certificateArn", InPlace, "may make leaves due at the next look"),
    row("/certificate/follow/expiringDays", InPlace, "may make leaves due at the next look"),
    row("/rollout/canary", InPlace, "of the next rotation"),
    row("/rollout/bakeMinutes", InPlace, "of the next wave"),
    row("/rollout/waveSize", InPlace, "of the next wave"),
    row("/rollout/wavePercent", InPlace, "of the next wave"),
    row("/rollout/minimumHealthyPercent", InPlace, "of the next installation"),
    row("/rollout/failureBudget", InPlace, "of the next wave"),
    row("/rollout/confirm", InPlace, "of the next installation"),
    row("/rollout/confirmSeconds", InPlace, "of the next installation"),
    row("/rollout/windows/*/days", InPlace, "holds for the next step of a rollout"),
    row("/rollout/windows/*/from", InPlace, "holds for the next step of a rollout"),
    row("/rollout/windows/*/to", InPlace, "holds for the next step of a rollout"),
    row("/rollout/freezes/*/from", InPlace, "holds for the next step of a rollout"),
    row("/rollout/freezes/*/to", InPlace, "holds for the next step of a rollout"),
    row("/rollout/safetyMarginHours", InPlace, "holds for the next step of a rollout"),
    row("/healthCheck/enabled", InPlace, "`UpdateTargetGroup`"),
    row("/healthCheck/protocol", InPlace, "`UpdateTargetGroup`"),
    row("/healthCheck/protocolVersion", InPlace, "`UpdateTargetGroup`"),
    row("/healthCheck/port", InPlace, "`UpdateTargetGroup`; the new port is opened first, the old one closed last"),
    row("/healthCheck/path", InPlace, "`UpdateTargetGroup`"),
    row("/healthCheck/intervalSeconds", InPlace, "`UpdateTargetGroup`"),
    row("/healthCheck/timeoutSeconds", InPlace, "`UpdateTargetGroup`"),
    row("/healthCheck/healthyThreshold", InPlace, "`UpdateTargetGroup`"),
    row("/healthCheck/unhealthyThreshold", InPlace, "`UpdateTargetGroup`"),
    row("/healthCheck/codes", InPlace, "`UpdateTargetGroup`"),
    row("/prober/name", InPlace, "of the next verification"),
    row(
        "/prober/securityGroupId",
        InPlace,
        "the new group is admitted to the targets first, the old one shut out last",
    ),
    row("/prober/samples", InPlace, "of the next verification"),
    row("/prober/resolver", InPlace, "of the next verification"),
];

/// The table as a page.
pub fn page() -> String {
    let mut page = String::from(
        "# What becomes of a change\n\nPrinted from `shared/domain/src/spec/change.rs` (`just generate`); a test holds the \
         table to the spec's fields and to\nwhat is really planned when each is changed. *In place* takes effect on what \
         is there; *replaced* makes a new resource\nbeside the old one, which goes last; *refused* does nothing and says \
         what to do.\n\n| field | a change is | how, and at what cost |\n| --- | --- | --- |\n",
    );
    for FieldChange { field, change, how } in CHANGES {
        let word = match change {
            InPlace => "in place",
            Replaced => "**replaced**",
            Refused => "**refused**",
        };
        let _ = writeln!(page, "| `{field}` | {word} | {how} |");
    }
    page
}
