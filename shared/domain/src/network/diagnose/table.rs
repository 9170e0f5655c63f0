//! The table of pitfalls: each cannot happen by construction, is refused when planned, is diagnosed, or can only be told.

use std::fmt::Write as _;

/// What becomes of a pitfall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It cannot happen.
    Impossible,
    /// The plan blocks.
    Refused,
    /// A diagnosis finds it.
    Diagnosed,
    /// No API that Espalier may call shows it.
    Told,
}

/// A pitfall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pitfall {
    /// Its stable word.
    pub id: &'static str,
    /// What people run into.
    pub what: &'static str,
    /// What becomes of it here.
    pub answer: Answer,
    /// How.
    pub how: &'static str,
}

const fn row(id: &'static str, what: &'static str, answer: Answer, how: &'static str) -> Pitfall {
    Pitfall { id, what, answer, how }
}

use Answer::{Diagnosed, Impossible, Refused, Told};

/// Every pitfall that can concern TLS passthrough.
pub const PITFALLS: &[Pitfall] = &[
    row(
        "targets-security-group",
        "the targets' group admits the callers' addresses and not VPC Lattice's prefix lists",
        Diagnosed,
        "`provision` keeps the rules for both lists on the traffic and the health check port; a missing one is named",
    ),
    row(
        "auth-policy-inverted",
        "`AWS_IAM` without a policy, or without a statement that allows the caller, denies",
        Diagnosed,
        "the policies of network and service are read; both have to allow anonymous clients",
    ),
    row(
        "no-signature",
        "a policy wants a signed request; passthrough carries none",
        Diagnosed,
        "statements that allow named principals only are named",
    ),
    row(
        "network-policy-denies",
        "a policy of the network that denies outsiders (`DenyOutsideOrg`) denies every passthrough connection",
        Diagnosed,
        "deny statements that test principals or organisations are named",
    ),
    row(
        "condition-keys",
        "a condition tests a key that has no value: path, method, header, principal",
        Diagnosed,
        "statements that test other keys than those of layer 4 are named",
    ),
    row(
        "pinned-wildcard",
        "clients pin the certificate of the generated name",
        Impossible,
        "passthrough needs a custom domain, and the targets serve their own leaf for it",
    ),
    row(
        "zone-not-in-consumer-vpc",
        "the private hosted zone is associated with the provider's VPC only",
        Diagnosed,
        "every consumer VPC is looked for in the zone's associations; the command is given, for other accounts, too",
    ),
    row(
        "name-does-not-resolve",
        "`Could not resolve host`: no record, another record, another zone",
        Diagnosed,
        "zone and alias are compared with the service's generated name",
    ),
    row(
        "vpc-not-associated",
        "a share was accepted and no VPC associated",
        Diagnosed,
        "each consumer VPC and the service need an active association",
    ),
    row(
        "mixed-listeners",
        "`TLS_PASSTHROUGH` and HTTPS on one service",
        Diagnosed,
        "other listeners of the service are named; Espalier makes none",
    ),
    row(
        "connection-times-out",
        "`Connection timed out`: nothing lets the client in",
        Diagnosed,
        "the association's groups have to open the listener's port to somebody; the listener has to be there",
    ),
    row(
        "no-targets",
        "nothing is registered in the target group",
        Diagnosed,
        "an empty group is named; a selection without a running instance blocks as `NoTargets`",
    ),
    row(
        "no-healthy-target",
        "503 or a reset: no target takes clients",
        Diagnosed,
        "the statuses of the targets are read; `UNAVAILABLE` is right with health checks off",
    ),
    row(
        "health-check-fails",
        "targets stay unhealthy",
        Diagnosed,
        "each unhealthy target is named; its port is kept open to VPC Lattice",
    ),
    row(
        "tcp-health-check",
        "a health check by TCP, which VPC Lattice does not take",
        Refused,
        "a mistake in the spec, with the reason",
    ),
    row(
        "other-network",
        "a VPC is associated with another service network already",
        Refused,
        "blocks as `Foreign` and names the network",
    ),
    row(
        "deletion-blocked",
        "associations keep networks and services from being deleted; failed creations stay",
        Diagnosed,
        "teardown goes in order and waits; what failed is named with VPC Lattice's message, what others hung on ours blocks",
    ),
    row(
        "no-access-logs",
        "no access log is configured by default",
        Diagnosed,
        "a service without a subscription, in a network without one, is named; `service.accessLogs` makes one",
    ),
    row(
        "certificate-errors",
        "`certificate verify failed`",
        Impossible,
        "a rotation ends with a handshake per target that verifies chain, name and validity; `rotate` with mode `verify` repeats it",
    ),
    row(
        "link-local-routes",
        "routes or network ACLs for 169.254.0.0/16 take VPC Lattice's 169.254.171.0/24",
        Told,
        "Espalier does not read route tables: look there when everything else is right and connections time out",
    ),
    row(
        "clients-outside",
        "clients come by peering, transit gateway, VPN or from on premises",
        Told,
        "link-local addresses do not leave a VPC: such clients need a service-network endpoint (PrivateLink) and their own \
         record for the name",
    ),
];

/// The table as a page.
pub fn page() -> String {
    let mut page = String::from(
        "# Diagnosis\n\n`{\"stack\": \"payments\", \"mode\": \"diagnose\"}` to `provision` compares a running stack with what \
         people run into with VPC Lattice\nand TLS passthrough, changes nothing, and answers with `findings`: `pitfall`, \
         `problem`, `remedy`. Printed from\n`shared/domain/src/network/diagnose/table.rs`; each row has a test.\n\n\
         | pitfall | what happens | here | how |\n| --- | --- | --- | --- |\n",
    );
    for Pitfall { id, what, answer, how } in PITFALLS {
        let word = match answer {
            Impossible => "impossible",
            Refused => "refused when planned",
            Diagnosed => "diagnosed",
            Told => "told",
        };
        let _ = writeln!(page, "| `{id}` | {what} | {word} | {how} |");
    }
    page
}
