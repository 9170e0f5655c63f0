//! The table: how a stack uses a certificate x what ACM shows of it -> what Espalier does (docs/acm.md).
//!
//! A pure function of freshly read state. The event that made us look is no argument: whichever of them came, once,
//! twice, late or not at all, the same state means the same.

use time::{Duration, OffsetDateTime};

use super::{AcmEvidence, AcmKind, AcmStatus};
use crate::id::AcmArn;
use crate::plan::{Block, BlockCode};
use crate::record::{AcmMark, GenerationRecord};
use crate::spec::AllowedDomains;
use crate::verdict::covers;

/// ACM may take some time to notice that a certificate was exported and is therefore to be renewed.
const ELIGIBLE_WITHIN: Duration = Duration::days(1);

/// How long before its end a certificate that nobody renews is told: ACM renews 45 days (public) or 60 days (private)
/// before it, and sends its daily event from 45 days on.
const LAPSING: Duration = Duration::days(45);

/// How a stack uses a certificate.
#[derive(Debug, Clone, Copy)]
pub enum Use<'a> {
    /// Its targets serve it (`certificate.issuer`).
    Serves {
        /// The certificate.
        certificate: &'a AcmArn,
        /// The newest generation, whatever it came from.
        newest: Option<&'a GenerationRecord>,
        /// The names the spec asks for.
        names: &'a [String],
        /// How long before its end ACM has to have a newer one.
        renew_before: Duration,
        /// The only domains that may be in it at all.
        allowed: &'a AllowedDomains,
        /// `provision` requested it: what it awaits needs nobody, and when it is gone there will be another.
        is_requested: bool,
    },
    /// Its own leaves answer the certificate's renewals (`certificate.follow`).
    Follows {
        /// The certificate.
        certificate: &'a AcmArn,
        /// The newest generation.
        newest: Option<&'a GenerationRecord>,
        /// How many days before its end it counts as expiring.
        expiring_days: u32,
    },
}

/// What is done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// No stack uses it.
    Ignore,
    /// Nothing: what there is has been taken over already.
    Keep,
    /// Nothing can be taken from ACM now; targets keep what they serve.
    Hold,
    /// The same, and nobody is needed: it was requested, and ACM will issue it.
    Await,
    /// The certificate with this serial number is exported as the next generation.
    Export(String),
    /// A leaf of our own is minted, which answers this state.
    Mint(AcmMark),
}

/// What a certificate's state means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// What is done.
    pub act: Act,
    /// What a person is told.
    pub tell: Option<Block>,
}

/// What the state of a certificate means for a stack that uses it, or for nobody. `seen` is absent when it could not be
/// read.
pub fn meaning(used: Option<Use<'_>>, seen: Option<&AcmEvidence>, now: OffsetDateTime) -> Meaning {
    let Some(used) = used else {
        return Meaning { act: Act::Ignore, tell: seen.and_then(|seen| lapse(seen, now)) };
    };
    let (Use::Serves { certificate, .. } | Use::Follows { certificate, .. }) = used;
    let seen = match seen {
        None => return hold(BlockCode::AcmUnusable, format!("{certificate} could not be read from ACM")),
        Some(seen) if seen.certificate != *certificate => {
            let because = format!("{} was read in place of {certificate}", seen.certificate);
            return hold(BlockCode::AcmUnusable, because);
        }
        Some(seen) => seen,
    };
    match used {
        Use::Serves { is_requested: true, .. } if is_awaited(seen) => Meaning { act: Act::Await, tell: None },
        Use::Serves { newest, names, renew_before, allowed, is_requested, .. } => {
            let wish = Wish { names, allowed, is_requested, renew_before };
            serves(seen, newest, &wish, now)
        }
        Use::Follows { newest, expiring_days, .. } => follows(seen, newest, expiring_days, now),
    }
}

fn follows(seen: &AcmEvidence, newest: Option<&GenerationRecord>, days: u32, now: OffsetDateTime) -> Meaning {
    match seen.mark(now, days) {
        Err(problem) => hold(BlockCode::AcmUnusable, format!("{problem}; leaves are renewed by their own age alone")),
        Ok(mark) if newest.is_none_or(|newest| answers_not(newest.follows.as_ref(), &mark)) => {
            Meaning { act: Act::Mint(mark), tell: None }
        }
        Ok(_) => Meaning { act: Act::Keep, tell: None },
    }
}

/// Whether a leaf that answers `leaf` does not answer `acm`.
///
/// That a certificate is *no longer* expiring, with the same serial number, is no news: two machines whose clocks
/// differ at the edge of the window would otherwise mint in turns.
fn answers_not(leaf: Option<&AcmMark>, acm: &AcmMark) -> bool {
    leaf.is_none_or(|leaf| leaf.serial != acm.serial || (acm.expiring && !leaf.expiring))
}

/// What a stack wants of the certificate it serves.
struct Wish<'a> {
    names: &'a [String],
    allowed: &'a AllowedDomains,
    is_requested: bool,
    renew_before: Duration,
}

/// A certificate that was requested is on its way, or gone and will be requested anew.
fn is_awaited(seen: &AcmEvidence) -> bool {
    match seen.status {
        AcmStatus::PendingValidation | AcmStatus::Missing => true,
        AcmStatus::Issued
        | AcmStatus::Inactive
        | AcmStatus::Expired
        | AcmStatus::ValidationTimedOut
        | AcmStatus::Revoked
        | AcmStatus::Failed
        | AcmStatus::Other(_)
        | AcmStatus::Unread(_) => false,
    }
}

fn serves(seen: &AcmEvidence, newest: Option<&GenerationRecord>, wish: &Wish<'_>, now: OffsetDateTime) -> Meaning {
    let arn = &seen.certificate;
    if let Some(block) = gone(seen, wish.is_requested, now).or_else(|| unfit(seen, wish)) {
        return Meaning { act: Act::Hold, tell: Some(block) };
    }
    let (Some(serial), Some(not_after)) = (&seen.serial, seen.not_after) else {
        return hold(BlockCode::AcmUnusable, format!("{arn} has no serial number or no end of validity"));
    };
    let serial = plain_serial(serial);
    let taken = newest.filter(|newest| is_export_of(newest, arn, &serial));
    let tell = trouble(seen, taken, wish.is_requested, now).or_else(|| {
        (not_after - now <= wish.renew_before).then(|| {
            let because = format!(
                "{arn} ends on {} and ACM has no newer certificate yet; targets serve it to its end. Look at its renewal \
                 status and validation records, or name another certificate in certificate.issuer",
                not_after.date()
            );
            Block { code: BlockCode::AcmExpiring, because }
        })
    });
    Meaning { act: if taken.is_some() { Act::Keep } else { Act::Export(serial) }, tell }
}

/// Whether a generation is this certificate as ACM has it now.
fn is_export_of(record: &GenerationRecord, certificate: &AcmArn, serial: &str) -> bool {
    record.serial == serial && record.export.as_ref().is_some_and(|export| export.certificate == *certificate)
}

/// It is no certificate that could be served, now or ever again.
fn gone(seen: &AcmEvidence, is_requested: bool, now: OffsetDateTime) -> Option<Block> {
    let arn = &seen.certificate;
    let another = if is_requested {
        "delete it in ACM, and another one is requested at the next look"
    } else {
        "request another and name it in certificate.issuer"
    };
    let (code, because) = match &seen.status {
        AcmStatus::Issued => {
            let ended = seen.not_after.filter(|end| *end <= now)?;
            (BlockCode::AcmExpired, format!("{arn} ended on {}: clients refuse it; {another}", ended.date()))
        }
        AcmStatus::Expired => (BlockCode::AcmExpired, format!("{arn} has expired: clients refuse it; {another}")),
        AcmStatus::Revoked => {
            let because =
                format!("{arn} was revoked: it is not exported any more, and targets that serve it go on; {another}");
            (BlockCode::AcmRevoked, because)
        }
        AcmStatus::PendingValidation => {
            let because =
                format!("{arn} awaits its validation: write the records that ACM names into its domain's zone");
            (BlockCode::AcmUnusable, because)
        }
        AcmStatus::ValidationTimedOut => {
            let because = format!(
                "{arn} was not validated within 72 hours: see whether the public DNS answers for its validation records \
                 (is the zone delegated?); then {another}"
            );
            (BlockCode::AcmUnusable, because)
        }
        AcmStatus::Failed => {
            let why = seen.failure.as_deref().unwrap_or("no reason told");
            let because =
                format!("{arn} could not be issued ({why}): {}; then {another}", mend(seen.failure.as_deref()));
            (BlockCode::AcmUnusable, because)
        }
        // What ails it is not the certificate.
        status @ AcmStatus::Unread(_) => (BlockCode::AcmUnusable, format!("{arn} {}", status.describe())),
        status @ (AcmStatus::Inactive | AcmStatus::Missing | AcmStatus::Other(_)) => {
            (BlockCode::AcmUnusable, format!("{arn} {}; {another}", status.describe()))
        }
    };
    Some(Block { code, because })
}

/// It is a good certificate, and cannot be this stack's.
fn unfit(seen: &AcmEvidence, wish: &Wish<'_>) -> Option<Block> {
    let (arn, names) = (&seen.certificate, wish.names);
    let block = |because: String| Some(Block { code: BlockCode::AcmUnusable, because });
    match seen.kind {
        AcmKind::Imported => {
            return block(format!(
                "{arn} was imported, and ACM exports none that was: name one that ACM issued in certificate.issuer"
            ));
        }
        AcmKind::Public if !seen.export_enabled => {
            return block(format!(
                "{arn} was requested without Options.Export ENABLED, which cannot be changed: request another with it"
            ));
        }
        AcmKind::Public | AcmKind::Private | AcmKind::Other(_) => {}
    }
    let is_covered = |name: &&String| seen.names.iter().any(|own| covers(own, name));
    let missing: Vec<&str> = names.iter().filter(|name| !is_covered(name)).map(String::as_str).collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return block(format!(
            "{arn} is not for {missing}: request one that is, or take the name out of certificate.dnsNames"
        ));
    }
    // `export` would refuse it at every pass.
    let foreign = seen.names.iter().find(|name| !wish.allowed.certifies(name))?;
    let because = format!(
        "{arn} is for {foreign}, too, which is outside the control plane's AllowedDomains: name a certificate that is not, \
         or have the control plane's owner allow the domain"
    );
    Some(Block { code: BlockCode::DomainNotAllowed, because })
}

/// A certificate that no stack uses, and that will end without being renewed: nobody else may notice.
fn lapse(seen: &AcmEvidence, now: OffsetDateTime) -> Option<Block> {
    let end = seen.not_after.filter(|_| seen.status == AcmStatus::Issued)?;
    if end <= now || end - now > LAPSING {
        return None;
    }
    let failing = seen.renewal.as_ref().filter(|renewal| is_failing(&renewal.status));
    let why = match (&seen.kind, failing) {
        (AcmKind::Imported, _) => "it was imported, and ACM renews none that was".to_owned(),
        (_, Some(renewal)) => {
            let remedy = remedy(&renewal.status, renewal.reason.as_deref());
            format!("ACM cannot renew it ({}): {remedy}", renewal.reason.as_deref().unwrap_or(&renewal.status))
        }
        (AcmKind::Public | AcmKind::Private | AcmKind::Other(_), None) if seen.eligible == Some(false) => {
            "it is neither in use nor exported, and ACM renews no such certificate".to_owned()
        }
        (AcmKind::Public | AcmKind::Private | AcmKind::Other(_), None) => return None,
    };
    let arn = &seen.certificate;
    let because = format!(
        "{arn} ends on {} and no stack uses it: {why}. Renew it, let a stack serve it, or delete it if nobody needs it",
        end.date()
    );
    Some(Block { code: BlockCode::AcmLapsing, because })
}

/// ACM will not or cannot renew it.
fn trouble(
    seen: &AcmEvidence,
    taken: Option<&GenerationRecord>,
    is_requested: bool,
    now: OffsetDateTime,
) -> Option<Block> {
    let arn = &seen.certificate;
    if let Some(renewal) = seen.renewal.as_ref().filter(|renewal| is_failing(&renewal.status)) {
        let reason = renewal.reason.as_deref();
        let said = reason.map_or_else(|| renewal.status.clone(), |reason| format!("{}, {reason}", renewal.status));
        let remedy = if is_requested && renewal.status == "PENDING_VALIDATION" {
            "provision writes the validation records back at its next look; if this stays, see whether the public DNS answers \
             for them (is the zone delegated?)"
        } else {
            remedy(&renewal.status, reason)
        };
        let because = format!("ACM cannot renew {arn} ({said}): {remedy}");
        return Some(Block { code: BlockCode::AcmActionRequired, because });
    }
    // Before it was exported nothing makes it eligible, and exporting it does.
    let is_noticed = now >= taken?.minted_at.saturating_add(ELIGIBLE_WITHIN);
    (seen.eligible == Some(false) && is_noticed).then(|| {
        let because = format!(
            "ACM will not renew {arn}: its RenewalEligibility is INELIGIBLE although it was exported. See whether its \
             validation records are still in place, or name another certificate in certificate.issuer"
        );
        Block { code: BlockCode::AcmNotRenewing, because }
    })
}

/// `RenewalStatus` says that ACM cannot go on by itself.
fn is_failing(status: &str) -> bool {
    ["PENDING_VALIDATION", "FAILED"].contains(&status)
}

/// What has to be mended before another request can succeed (ACM user guide, troubleshooting certificate requests; API
/// reference, `FailureReason`).
fn mend(reason: Option<&str>) -> &'static str {
    match reason {
        Some("CAA_ERROR") => "let the domain's CAA record admit amazon.com",
        Some("ADDITIONAL_VERIFICATION_REQUIRED") => "AWS wants to know more about the domain: open a support case",
        Some("DOMAIN_NOT_ALLOWED" | "DOMAIN_VALIDATION_DENIED") => {
            "ACM may not certify the domain: ask AWS, or use another"
        }
        Some("INVALID_PUBLIC_DOMAIN") => "the domain's end is no public one: use another, or a private authority",
        Some("NO_AVAILABLE_CONTACTS") => "the domain's contacts could not be asked: validate by DNS",
        Some("PCA_LIMIT_EXCEEDED") => "the private authority has issued all it may: raise its quota",
        Some("PCA_ACCESS_DENIED") => "let the private authority's policy admit ACM",
        Some(reason) if reason.starts_with("PCA_") => "look at the private authority's state, names and end",
        Some("SLR_NOT_FOUND") => "let ACM make its service-linked role again",
        None | Some(_) => "see FailureReason of DescribeCertificate",
    }
}

/// What ends ACM's inability (ACM user guide, troubleshooting managed renewal; API reference, `RenewalSummary`).
fn remedy(status: &str, reason: Option<&str>) -> &'static str {
    match reason {
        Some("CAA_ERROR") => "the domain's CAA record does not admit Amazon: add amazon.com to it",
        Some("PCA_ACCESS_DENIED") => "its private authority's policy does not admit ACM: share it again",
        Some("SLR_NOT_FOUND") => "ACM's service-linked role is gone: let ACM make it again",
        Some(reason) if reason.starts_with("PCA_") => {
            "its private authority cannot issue: look at the authority's state, quota and end"
        }
        Some("DOMAIN_VALIDATION_DENIED" | "DOMAIN_NOT_ALLOWED" | "NO_AVAILABLE_CONTACTS") => {
            "ACM may not certify the domain: ask AWS, or use another"
        }
        None | Some(_) if status == "PENDING_VALIDATION" || reason == Some("PENDING_DOMAIN_VALIDATION") => {
            "write the CNAME records that DescribeCertificate names back into the domain's zone"
        }
        None | Some(_) => "see RenewalSummary of DescribeCertificate",
    }
}

/// A serial number as ACM prints it (`0a:0b`), as it stands in the ledger: lower-case hexadecimal, no leading zeros.
fn plain_serial(acm: &str) -> String {
    let digits: String = acm.chars().filter(char::is_ascii_hexdigit).map(|digit| digit.to_ascii_lowercase()).collect();
    match digits.trim_start_matches('0') {
        "" => "0".to_owned(),
        digits => digits.to_owned(),
    }
}

fn hold(code: BlockCode, because: String) -> Meaning {
    Meaning { act: Act::Hold, tell: Some(Block { code, because }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_reads_the_same_in_both_ways_of_writing_it() {
        assert_eq!(plain_serial("0A:0b:ff"), "a0bff");
        assert_eq!((plain_serial("00:00"), plain_serial("")), ("0".to_owned(), "0".to_owned()));
    }
}
