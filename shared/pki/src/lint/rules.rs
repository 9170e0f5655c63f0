//! The rules, each a sentence about what is wrong, with its source.

use espalier_domain::id::HostName;
use espalier_domain::spec::KeyType;
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::TbsCertificate;
use x509_parser::extensions::GeneralName;

use super::{Finding, Order, Parties, Policy};
use crate::inspect::Facts;
use crate::profile::{LeafRequest, Purpose};

/// A leaf's longest life whatever a policy says, and how far back anything may begin.
const LEAF_LIFE: Duration = Duration::days(30);
const LEAF_BACKDATE: Duration = Duration::hours(1);
const AUTHORITY_LIFE: Duration = Duration::days(10 * 365 + 3);
const AUTHORITY_BACKDATE: Duration = Duration::hours(2);

const SUBJECT_KEY_ID: &str = "2.5.29.14";
const KEY_USAGE: &str = "2.5.29.15";
const ALTERNATIVE_NAME: &str = "2.5.29.17";
const BASIC_CONSTRAINTS: &str = "2.5.29.19";
const NAME_CONSTRAINTS: &str = "2.5.29.30";
const AUTHORITY_KEY_ID: &str = "2.5.29.35";
const EXTENDED_KEY_USAGE: &str = "2.5.29.37";

/// What is wrong with a certificate, in the order of the rules.
pub(super) fn broken(
    certificate: &TbsCertificate<'_>,
    facts: &Facts,
    order: &Order<'_>,
    parties: &Parties<'_>,
) -> Vec<Finding> {
    let mut found = Found(Vec::new());
    basics(&mut found, certificate, facts, parties);
    match order {
        Order::Root => root(&mut found, facts, parties),
        Order::Issuing { domains, above } => {
            below(&mut found, facts, above, parties);
            issuing(&mut found, certificate, facts, parties, domains, above);
        }
        Order::Leaf { request, policy, above } => {
            below(&mut found, facts, above, parties);
            leaf(&mut found, facts, above, parties.now);
            as_asked(&mut found, facts, request, parties.now);
            allowed(&mut found, facts, policy, above);
        }
    }
    found.0
}

struct Found(Vec<Finding>);

impl Found {
    fn unless(&mut self, holds: bool, rule: &'static str, source: &'static str) {
        if !holds {
            self.0.push(Finding { rule, source });
        }
    }
}

/// What holds for every certificate.
fn basics(found: &mut Found, certificate: &TbsCertificate<'_>, facts: &Facts, parties: &Parties<'_>) {
    found.unless(certificate.version.0 == 2, "it is not of version 3", "RFC 5280 section 4.1.2.1");
    let serial = certificate.raw_serial();
    let positive = serial.first().is_some_and(|octet| octet & 0x80 == 0);
    found.unless(
        positive && (16..=20).contains(&serial.len()),
        "its serial number is not 16 to 20 octets and positive",
        "RFC 5280 section 4.1.2.2; CA/Browser BR 7.1: 64 bits of entropy",
    );
    found.unless(facts.serial == parties.serial.text(), "its serial number is not the one drawn", "the order");
    let algorithm = certificate.signature.algorithm.to_id_string();
    let of_signer = match parties.signer.key_type() {
        KeyType::EcPrime256v1 => Some("1.2.840.10045.4.3.2"),
        KeyType::EcSecp384r1 => Some("1.2.840.10045.4.3.3"),
        KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 | KeyType::Ed25519 => None,
    };
    found.unless(
        of_signer == Some(algorithm.as_str()) && certificate.signature.parameters.is_none(),
        "its signature is not ECDSA with the hash of its issuer's curve",
        "RFC 5758 section 3.2",
    );
    found.unless(
        certificate.issuer_uid.is_none() && certificate.subject_uid.is_none(),
        "it has unique identifiers",
        "RFC 5280 section 4.1.2.8",
    );
    let dates = certificate.validity();
    // After 2049 UTCTime means the last century.
    let encoded = [&dates.not_before, &dates.not_after]
        .into_iter()
        .all(|date| date.is_utctime() == (date.to_datetime().year() < 2050));
    found.unless(encoded, "a date is encoded as dates of its century are not", "RFC 5280 section 4.1.2.5");
    found.unless(facts.not_before < facts.not_after, "it ends before it begins", "RFC 5280 section 4.1.2.5");
    found.unless(
        facts.not_before <= parties.now && parties.now < facts.not_after,
        "it is not valid when it is signed",
        "profile",
    );
    found.unless(
        facts.key_fingerprint == parties.subject.fingerprint(),
        "its key is not the one it was ordered for",
        "the order",
    );
    found.unless(facts.subject_key_id.is_some(), "it has no subject key identifier", "RFC 5280 section 4.2.1.2");
}

fn life(found: &mut Found, facts: &Facts, now: OffsetDateTime, longest: Duration, backdate: Duration) {
    // Both ends count (RFC 5280 section 4.1.2.5).
    let life = facts.not_after - facts.not_before + Duration::SECOND;
    found.unless(life <= longest, "it lives longer than its profile allows", "profile");
    found.unless(facts.not_before >= now - backdate - Duration::SECOND, "it begins too far back", "profile");
}

/// What holds for everything that has an issuer.
fn below(found: &mut Found, facts: &Facts, above: &Facts, parties: &Parties<'_>) {
    found.unless(
        above.is_ca && above.key_usage.contains(&"keyCertSign"),
        "its issuer may not sign",
        "RFC 5280 section 4.2.1.3",
    );
    found.unless(
        above.key_fingerprint == parties.signer.fingerprint(),
        "the signer's key is not its issuer's",
        "the order",
    );
    found.unless(facts.key_fingerprint != above.key_fingerprint, "its key is its issuer's", "RFC 5280 section 4.2.1.1");
    found.unless(facts.issuer == above.subject, "its issuer's name is another", "RFC 5280 section 4.1.2.4");
    found.unless(
        facts.authority_key_id.is_some() && facts.authority_key_id == above.subject_key_id,
        "its authority key identifier is not its issuer's key identifier",
        "RFC 5280 section 4.2.1.1",
    );
    found.unless(
        facts.not_before >= above.not_before && facts.not_after <= above.not_after,
        "it outlives its issuer",
        "invariant 6; cert-manager issue 5864",
    );
}

fn shape(found: &mut Found, facts: &Facts, extensions: &[&str], critical: &[&str]) {
    found.unless(
        facts.extensions == extensions,
        "its extensions are not exactly those of its profile",
        "profile; RFC 5280 section 4.2",
    );
    found.unless(
        facts.critical == critical,
        "its critical extensions are not exactly those of its profile",
        "profile; RFC 5280 section 4.2",
    );
}

fn authority(found: &mut Found, facts: &Facts, parties: &Parties<'_>, path_length: u32) {
    found.unless(facts.is_ca, "it is not an authority", "RFC 5280 section 4.2.1.9");
    found.unless(facts.path_length == Some(path_length), "its path length is another", "RFC 5280 section 4.2.1.9");
    found.unless(
        facts.key_usage == ["keyCertSign", "cRLSign"],
        "its key usage is not keyCertSign and cRLSign",
        "RFC 5280 section 4.2.1.3",
    );
    found.unless(
        matches!(facts.key_type, Some(KeyType::EcPrime256v1 | KeyType::EcSecp384r1)),
        "its key is not on P-256 or P-384",
        "profile",
    );
    found.unless(!facts.subject.is_empty(), "its subject is empty", "RFC 5280 section 4.1.2.6");
    found.unless(facts.dns_names.is_empty() && facts.other_names.is_empty(), "an authority has names", "profile");
    life(found, facts, parties.now, AUTHORITY_LIFE, AUTHORITY_BACKDATE);
}

fn root(found: &mut Found, facts: &Facts, parties: &Parties<'_>) {
    authority(found, facts, parties, 1);
    found.unless(facts.subject == facts.issuer, "a root is not its own issuer", "RFC 5280 section 3.2");
    found.unless(parties.signer == parties.subject, "a root is not signed by itself", "RFC 5280 section 3.2");
    shape(found, facts, &[SUBJECT_KEY_ID, KEY_USAGE, BASIC_CONSTRAINTS], &[KEY_USAGE, BASIC_CONSTRAINTS]);
}

fn issuing(
    found: &mut Found,
    certificate: &TbsCertificate<'_>,
    facts: &Facts,
    parties: &Parties<'_>,
    domains: &[&str],
    above: &Facts,
) {
    authority(found, facts, parties, 0);
    found.unless(
        above.path_length.is_none_or(|length| length >= 1),
        "its issuer's path length is used up",
        "RFC 5280 section 4.2.1.9",
    );
    found.unless(facts.subject != facts.issuer, "its subject is its issuer's", "RFC 5280 section 4.2.1.9: self-issued");
    found.unless(
        facts.extended_key_usage == ["serverAuth", "clientAuth"],
        "its extended key usage is not serverAuth and clientAuth",
        "CA/Browser BR 7.1.2.10.6",
    );
    shape(
        found,
        facts,
        &[SUBJECT_KEY_ID, KEY_USAGE, BASIC_CONSTRAINTS, NAME_CONSTRAINTS, AUTHORITY_KEY_ID, EXTENDED_KEY_USAGE],
        &[KEY_USAGE, BASIC_CONSTRAINTS, NAME_CONSTRAINTS],
    );
    let permitted = facts.permitted_dns.as_deref().unwrap_or_default();
    found.unless(
        !permitted.is_empty() && permitted == domains,
        "its name constraints are not exactly the allowed domains",
        "RFC 5280 section 4.2.1.10",
    );
    found.unless(excludes_addresses(certificate), "it may certify addresses", "RFC 5280 section 4.2.1.10");
}

/// A constraint binds only the kinds of names it lists: without these, any address could be certified.
fn excludes_addresses(certificate: &TbsCertificate<'_>) -> bool {
    let Ok(Some(constraints)) = certificate.name_constraints() else { return false };
    let excluded = constraints.value.excluded_subtrees.as_deref().unwrap_or_default();
    let all = |length: usize| {
        excluded.iter().any(|subtree| {
            if let GeneralName::IPAddress(octets) = &subtree.base {
                octets.len() == length && octets.iter().all(|octet| *octet == 0)
            } else {
                false
            }
        })
    };
    all(8) && all(32)
}

fn leaf(found: &mut Found, facts: &Facts, above: &Facts, now: OffsetDateTime) {
    life(found, facts, now, LEAF_LIFE, LEAF_BACKDATE);
    found.unless(!facts.is_ca, "a leaf is an authority", "RFC 5280 section 4.2.1.9");
    found.unless(above.path_length == Some(0), "its issuer's path length is not 0", "profile");
    found.unless(facts.subject.is_empty(), "its subject is not empty", "CA/Browser BR 7.1.2.7.2; RFC 9525 section 2");
    found.unless(
        facts.key_usage == ["digitalSignature"],
        "its key usage is not digitalSignature alone",
        "RFC 5280 section 4.2.1.3; RFC 8446 section 4.4.2.2",
    );
    found.unless(!facts.dns_names.is_empty(), "it has no DNS name", "RFC 9525 section 4");
    found.unless(facts.other_names.is_empty(), "it has names that are not DNS names", "profile");
    found.unless(
        facts.dns_names.iter().all(|name| HostName::parse(name.as_str()).is_ok()),
        "a name is not a plain lower-case host name",
        "RFC 1034 section 3.5; RFC 9525 section 6.3 for wildcards",
    );
    found.unless(facts.dns_names.windows(2).all(|pair| pair[0] != pair[1]), "a name stands there twice", "profile");
    shape(
        found,
        facts,
        &[SUBJECT_KEY_ID, KEY_USAGE, ALTERNATIVE_NAME, BASIC_CONSTRAINTS, AUTHORITY_KEY_ID, EXTENDED_KEY_USAGE],
        // The names are critical because the subject is empty (RFC 5280 section 4.2.1.6).
        &[KEY_USAGE, ALTERNATIVE_NAME, BASIC_CONSTRAINTS],
    );
}

/// Whether a leaf is what its request asked for.
fn as_asked(found: &mut Found, facts: &Facts, request: &LeafRequest, now: OffsetDateTime) {
    let mut names: Vec<&str> = request.dns_names.iter().map(HostName::as_str).collect();
    names.sort_unstable();
    names.dedup();
    found.unless(facts.dns_names == names, "its names are not those asked for", "the order");
    let purpose = match request.purpose {
        Purpose::Server => "serverAuth",
        Purpose::Client => "clientAuth",
    };
    found.unless(
        facts.extended_key_usage == [purpose],
        "its extended key usage is not the purpose asked for, alone",
        "RFC 5280 section 4.2.1.12; CA/Browser BR 7.1.2.7.10",
    );
    found.unless(facts.not_after <= now + request.validity, "it lives longer than asked for", "the order");
}

/// Whether a leaf is what its stack and its issuer may have.
fn allowed(found: &mut Found, facts: &Facts, policy: &Policy, above: &Facts) {
    let within = |name: &String| HostName::parse(name.as_str()).is_ok_and(|name| policy.domains.allows(&name));
    found.unless(facts.dns_names.iter().all(within), "a name is outside the AllowedDomains", "policy");
    let listed = |name: &String| policy.names.iter().any(|known| known.as_str() == name);
    found.unless(facts.dns_names.iter().all(listed), "a name is not one of its stack's", "policy");
    found.unless(
        facts.key_type.is_some_and(|key_type| policy.key_types.contains(&key_type)),
        "its key is not of a kind its stack may have",
        "policy",
    );
    let permitted = above.permitted_dns.as_deref().unwrap_or_default();
    let below = |name: &String| permitted.iter().any(|domain| is_below(name, domain));
    found.unless(facts.dns_names.iter().all(below), "a name its issuer may not certify", "RFC 5280 section 4.2.1.10");
    let purposes = &above.extended_key_usage;
    found.unless(
        facts.extended_key_usage.iter().all(|purpose| purposes.contains(purpose)),
        "a purpose its issuer may not certify",
        "CA/Browser BR 7.1.2.10.6",
    );
    let life = facts.not_after - facts.not_before + Duration::SECOND;
    found.unless(life <= policy.longest, "it lives longer than its stack may have", "policy");
}

fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.') || domain.starts_with('.'))
}
