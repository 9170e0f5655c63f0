//! Rules that compare fields. They read the document itself, so that one mistake does not hide another.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;
use time::OffsetDateTime;

use super::{AllowedDomains, KeyType, SpecError, auth};
use crate::id::HostName;

/// Checks everything that takes more than one field, as far as those fields can be read.
pub(super) fn check(document: &Value, allowed: &AllowedDomains, errors: &mut Vec<SpecError>) {
    let mut report = |path: &str, problem: String, remedy: &str| {
        errors.push(SpecError { path: path.to_owned(), problem, remedy: remedy.to_owned() });
    };
    presence(document, &mut report);
    auth::check(document, &mut report);
    names(document, allowed, &mut report);
    source(document, &mut report);
    lifetime(document, &mut report);
    rollout(document, &mut report);
    unique(document, &mut report);
    families(document, &mut report);
    health(document, &mut report);
}

type Report<'a> = dyn FnMut(&str, String, &str) + 'a;

/// What must be there because of something else, or must not.
fn presence(document: &Value, report: &mut Report<'_>) {
    let is_rotation = document["manage"] == "rotation";
    let has_estate = document.get("lattice").is_some();
    if is_rotation && !has_estate {
        let remedy = "add it: serviceId and targetGroupIds of the estate that somebody else manages";
        report("/lattice", "is missing".to_owned(), remedy);
    } else if has_estate && !is_rotation {
        let remedy = "remove it, or write \"manage\": \"rotation\"";
        report("/lattice", "is only for an estate that somebody else manages".to_owned(), remedy);
    }
    if is_rotation && document.pointer("/service/dns/privateZone").is_some() {
        let problem = "is only for a stack whose estate is Espalier's (manage `stack`)".to_owned();
        report("/service/dns/privateZone", problem, "name the hostedZoneId in which its owner publishes the service");
    }
    let Some(network) = document["network"].as_object() else { return };
    let there = network.get("consumers").map(|consumers| consumers.as_array().map(Vec::len));
    if !network.contains_key("serviceNetworkId") && matches!(there, None | Some(Some(0))) {
        let problem = if there.is_none() { "is missing" } else { "has 0 entries" };
        let remedy =
            "list the VPCs whose clients may use the service, or name a serviceNetworkId that others associate";
        report("/network/consumers", problem.to_owned(), remedy);
    }
}

fn names(document: &Value, allowed: &AllowedDomains, report: &mut Report<'_>) {
    let domain = document.pointer("/service/domainName").and_then(Value::as_str);
    let listed: Vec<&str> = list(document, "/certificate/dnsNames");
    if let Some(domain) = domain
        && !listed.is_empty()
        && !listed.contains(&domain)
    {
        let problem = format!("does not contain the service's domain name {domain:?}");
        report("/certificate/dnsNames", problem, "add it: clients ask the targets for that name");
    }
    let pointed = domain.into_iter().map(|name| ("/service/domainName".to_owned(), name));
    let indexed = listed.iter().enumerate().map(|(index, name)| (format!("/certificate/dnsNames/{index}"), *name));
    for path in ["/service/dns/hostedZoneName", "/service/dns/privateZone/name"] {
        if let (Some(domain), Some(zone)) = (domain, document.pointer(path).and_then(Value::as_str))
            && domain != zone
            && !domain.ends_with(&format!(".{zone}"))
        {
            let problem = format!("the domain name {domain:?} is not in {zone:?}");
            report(path, problem, "name the zone that the domain name belongs to");
        }
    }
    // What others install is certified by others.
    let is_certified = document.pointer("/certificate/issuer/kind").and_then(Value::as_str) != Some("others");
    // A zone hides everything else of its name from the VPCs that it is associated with.
    let own_zone = "/service/dns/privateZone/name";
    let own_zone = document.pointer(own_zone).and_then(Value::as_str).map(|name| (own_zone.to_owned(), name));
    for (path, name) in pointed.chain(own_zone).chain(indexed) {
        if is_certified && HostName::parse(name).is_ok_and(|name| !allowed.allows(&name)) {
            let problem = format!("{name:?} is outside the control plane's AllowedDomains");
            report(&path, problem, "use a name below an allowed domain, or have the control plane's owner allow it");
        }
    }
}

/// What a certificate out of ACM needs, and what is not ours to say about it.
fn source(document: &Value, report: &mut Report<'_>) {
    let Some(certificate) = document["certificate"].as_object() else { return };
    let kind = document.pointer("/certificate/issuer/kind").and_then(Value::as_str);
    scope(document, kind, report);
    custody(document, report);
    if kind == Some("others") {
        return others(document, report);
    }
    if document.pointer("/targets/select/hosts").is_some() {
        let problem = "is only for certificates that somebody else installs".to_owned();
        let remedy = "select instances or addresses, or write \"kind\": \"others\" and \"manage\": \"nothing\"";
        report("/targets/select/hosts", problem, remedy);
    }
    if document.pointer("/certificate/issuer/trust").is_some() {
        let problem = "is only for certificates that somebody else installs".to_owned();
        report(
            "/certificate/issuer/trust",
            problem,
            "write \"kind\": \"others\" and \"manage\": \"nothing\", or remove it",
        );
    }
    let has_arn = document.pointer("/certificate/issuer/certificateArn").is_some();
    let is_requested = document.pointer("/certificate/issuer/request").is_some();
    if kind != Some("acm") {
        if has_arn {
            let remedy = "write \"kind\": \"acm\", or name it in certificate.follow";
            report("/certificate/issuer/certificateArn", "is only for a certificate out of ACM".to_owned(), remedy);
        }
        if is_requested {
            let problem = "is only for a certificate out of ACM".to_owned();
            report("/certificate/issuer/request", problem, "write \"kind\": \"acm\", or remove it");
        }
        if !certificate.contains_key("validityHours") {
            let remedy = "write how long a leaf shall live: 168 hours is a good start";
            report("/certificate/validityHours", "is missing".to_owned(), remedy);
        }
        return;
    }
    match (has_arn, is_requested) {
        (true, true) => {
            let remedy = "name a certificate that there is, or let one be requested, not both";
            report("/certificate/issuer/request", "stands beside certificateArn".to_owned(), remedy);
        }
        (false, true) => requested(document, report),
        (false, false) => {
            let remedy = "name the ACM certificate that is to be exported, or write \"request\"";
            report("/certificate/issuer/certificateArn", "is missing".to_owned(), remedy);
        }
        (true, false) => {}
    }
    for (field, why) in [
        ("validityHours", "ACM decides how long the certificate lives"),
        ("keyType", "the kind of key was chosen when the certificate was requested"),
        ("follow", "the renewals of the certificate that is served are followed in any case"),
    ] {
        if certificate.contains_key(field) && !(is_requested && field == "keyType") {
            report(
                &format!("/certificate/{field}"),
                format!("stands beside an issuer of kind acm: {why}"),
                "remove it",
            );
        }
    }
}

/// What giving each target a certificate of its own takes: that it is minted here, and that somebody installs it.
fn scope(document: &Value, kind: Option<&str>, report: &mut Report<'_>) {
    let path = "/certificate/scope";
    if document.pointer(path).and_then(Value::as_str) != Some("target") {
        return;
    }
    match kind {
        Some("acm") => {
            let problem =
                "is \"target\" beside an issuer of kind acm, which is one certificate with one key".to_owned();
            report(path, problem, "write \"shared\", or let the control plane's authority sign");
        }
        Some("others") => {
            let problem =
                "is \"target\" beside an issuer of kind others: that is for those who install the certificate";
            report(path, problem.to_owned(), "remove it");
        }
        _ => {}
    }
    let addresses = document.pointer("/targets/select/addresses").and_then(Value::as_array);
    for (index, one) in addresses.into_iter().flatten().enumerate() {
        if one.get("node").is_none() {
            let problem =
                "is missing, and certificate.scope is \"target\": nobody can be given a certificate of its own here";
            let remedy = "name the managed node that answers at the address, or write \"scope\": \"shared\"";
            report(&format!("/targets/select/addresses/{index}/node"), problem.to_owned(), remedy);
        }
    }
}

/// A key that is made on a target is that target's alone.
fn custody(document: &Value, report: &mut Report<'_>) {
    let path = "/certificate/custody/kind";
    let is_each = document.pointer("/certificate/scope").and_then(Value::as_str) == Some("target");
    if document.pointer(path).and_then(Value::as_str) == Some("target") && !is_each {
        let problem =
            "is \"target\", and certificate.scope is not: a key that all targets share is made on none of them";
        report(path, problem.to_owned(), "write \"scope\": \"target\" in certificate, or \"kind\": \"parameterStore\"");
    }
}

/// What judging takes that others install, and what is theirs to say.
fn others(document: &Value, report: &mut Report<'_>) {
    if document["manage"] != "nothing" {
        let problem = "\"others\" is only for a stack of which nothing is Espalier's".to_owned();
        report("/certificate/issuer/kind", problem, "write \"manage\": \"nothing\", or let authority or acm sign");
    }
    if document.pointer("/certificate/issuer/trust").is_none() {
        let remedy = "write public, authority, or the roots as PEM";
        report("/certificate/issuer/trust", "is missing".to_owned(), remedy);
    }
    let theirs = ["issuer/request", "validityHours", "keyType", "follow"].map(|field| format!("/certificate/{field}"));
    for path in theirs.iter().filter(|path| document.pointer(path).is_some()) {
        let problem =
            "stands beside an issuer of kind others: that is for those who install the certificate".to_owned();
        report(path, problem, "remove it");
    }
}

/// What ACM takes for a public certificate (API reference, `RequestCertificate`).
fn requested(document: &Value, report: &mut Report<'_>) {
    if let Some(key) = document.pointer("/certificate/keyType").and_then(Value::as_str)
        && KeyType::ALL.iter().any(|known| known.name() == key)
        && !KeyType::REQUESTABLE.iter().any(|taken| taken.name() == key)
    {
        let problem = format!("{key:?} is no key that ACM makes for a public certificate");
        report("/certificate/keyType", problem, "write EC_prime256v1, EC_secp384r1 or RSA_2048");
    }
    if let Some(name) = document.pointer("/service/domainName").and_then(Value::as_str)
        && name.len() > COMMON_NAME
    {
        let problem = format!("{name:?} is longer than the {COMMON_NAME} characters of a common name");
        report("/service/domainName", problem, "use a shorter name, or name a certificate that there is");
    }
}

/// The longest `DomainName` of `RequestCertificate` (RFC 5280, appendix A, `ub-common-name`).
const COMMON_NAME: usize = 64;

fn lifetime(document: &Value, report: &mut Report<'_>) {
    let hours = |name: &str| document.pointer(&format!("/certificate/{name}")).and_then(Value::as_u64);
    if let (Some(validity), Some(renew)) = (hours("validityHours"), hours("renewBeforeHours"))
        && renew >= validity
    {
        let problem = format!("{renew} is not less than validityHours, {validity}");
        report("/certificate/renewBeforeHours", problem, "a leaf would be due when it is born: use about a third");
    }
}

fn rollout(document: &Value, report: &mut Report<'_>) {
    let number = |path: &str| document.pointer(path).and_then(Value::as_u64);
    if let (Some(_), Some(percent)) = (number("/rollout/waveSize"), number("/rollout/wavePercent")) {
        let problem = format!("{percent} stands beside waveSize");
        report("/rollout/wavePercent", problem, "say how many or how many percent, not both");
    }
    if let (Some(margin), Some(renew)) = (number("/rollout/safetyMarginHours"), number("/certificate/renewBeforeHours"))
        && margin >= renew
    {
        let problem = format!("{margin} is not less than certificate.renewBeforeHours, {renew}");
        report("/rollout/safetyMarginHours", problem, "no window would ever count: use about half of it");
    }
    let freezes = document.pointer("/rollout/freezes").and_then(Value::as_array);
    for (index, freeze) in freezes.into_iter().flatten().enumerate() {
        if let (Some(from), Some(to)) = (freeze["from"].as_str(), freeze["to"].as_str())
            && is_moment(from)
            && is_moment(to)
            && to <= from
        {
            report(&format!("/rollout/freezes/{index}/to"), format!("{to} is not after {from}"), "let it end later");
        }
    }
}

/// A moment in UTC as RFC 3339 writes it, to the second: of two such texts the later moment is the greater.
pub(super) fn is_moment(text: &str) -> bool {
    text.len() == 20
        && text.ends_with('Z')
        && OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).is_ok()
}

fn unique(document: &Value, report: &mut Report<'_>) {
    let consumers = document.pointer("/network/consumers").and_then(Value::as_array);
    let vpcs = consumers.into_iter().flatten().map(|one| one["vpcId"].as_str().unwrap_or_default()).collect();
    let addresses = document.pointer("/targets/select/addresses").and_then(Value::as_array);
    let of_addresses = |field: &str| -> Vec<&str> {
        addresses.into_iter().flatten().map(|one| one[field].as_str().unwrap_or_default()).collect()
    };
    let lists: [(&str, &str, Vec<&str>); 10] = [
        ("/lattice/targetGroupIds", "", list(document, "/lattice/targetGroupIds")),
        ("/network/consumers", "/vpcId", vpcs),
        ("/network/subnetIds", "", list(document, "/network/subnetIds")),
        ("/targets/select/instanceIds", "", list(document, "/targets/select/instanceIds")),
        ("/targets/select/autoScalingGroups", "", list(document, "/targets/select/autoScalingGroups")),
        ("/targets/select/hosts", "", list(document, "/targets/select/hosts")),
        ("/targets/select/addresses", "/address", of_addresses("address")),
        ("/targets/select/addresses", "/node", of_addresses("node")),
        ("/certificate/dnsNames", "", list(document, "/certificate/dnsNames")),
        ("/notify", "", list(document, "/notify")),
    ];
    for (path, field, values) in lists {
        let mut seen = BTreeSet::new();
        for (index, value) in values.into_iter().enumerate() {
            if !value.is_empty() && !seen.insert(value) {
                report(&format!("{path}/{index}{field}"), format!("{value:?} is listed twice"), "list it once");
            }
        }
    }
}

/// One target group takes one family (`ipAddressType` of `CreateTargetGroup`), and a replacement changes all of them.
fn families(document: &Value, report: &mut Report<'_>) {
    let Some(all) = document.pointer("/targets/select/addresses").and_then(Value::as_array) else { return };
    let is_ipv6 = |one: &Value| Some(one["address"].as_str()?.parse::<IpAddr>().ok()?.is_ipv6());
    let Some(first) = all.iter().find_map(is_ipv6) else { return };
    for (index, one) in all.iter().enumerate().filter(|(_, one)| is_ipv6(one).is_some_and(|other| other != first)) {
        let (own, family) = if first { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
        let problem =
            format!("{} is {own} beside {family} addresses, and a target group takes one family", one["address"]);
        let remedy = "select each target by the same family, or make a second stack";
        report(&format!("/targets/select/addresses/{index}/address"), problem, remedy);
    }
}

fn health(document: &Value, report: &mut Report<'_>) {
    let number = |name: &str| document.pointer(&format!("/healthCheck/{name}")).and_then(Value::as_u64);
    if let (Some(interval), Some(timeout)) = (number("intervalSeconds"), number("timeoutSeconds"))
        && timeout >= interval
    {
        let problem = format!("{timeout} is not less than intervalSeconds, {interval}");
        report("/healthCheck/timeoutSeconds", problem, "let a check end before the next begins");
    }
}

fn list<'a>(document: &'a Value, path: &str) -> Vec<&'a str> {
    let entries = document.pointer(path).and_then(Value::as_array).into_iter().flatten();
    entries.filter_map(Value::as_str).collect()
}
