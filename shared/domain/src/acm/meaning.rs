//! The table: how a stack uses a certificate x what ACM shows of it -> what Espalier does (docs/acm.md).
//!
//! A pure function of freshly read state. The event that made us look is no argument: whichever of them came, once,
//! twice, late or not at all, the same state means the same.

use time::{Duration, OffsetDateTime};

use super::remedy::{is_failing, mend, remedy, validate};
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

/// How long a requested certificate is awaited without a word: with DNS validation ACM issues within minutes of finding
/// the records, and after 72 hours it gives up.
const ISSUED_WITHIN: Duration = Duration::hours(1);

/// Somebody else puts a followed certificate to use, or exports it: AWS's agent does so once a day.
const USED_WITHIN: Duration = Duration::days(2);

/// How long before its end a followed certificate that ACM should have renewed weeks ago is told.
const LATE: Duration = Duration::days(14);

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
    /// Others install it on its targets (`certificate.issuer` of kind `others`): what is served is compared with it.
    Watches {
        /// The certificate.
        certificate: &'a AcmArn,
        /// How long before its end ACM has to have a newer one.
        renew_before: Duration,
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
    let (Use::Serves { certificate, .. } | Use::Follows { certificate, .. } | Use::Watches { certificate, .. }) = used;
    let seen = match seen {
        None => return hold(BlockCode::AcmUnusable, format!("{certificate} could not be read from ACM")),
        Some(seen) if seen.certificate != *certificate => {
            let because = format!("{} was read in place of {certificate}", seen.certificate);
            return hold(BlockCode::AcmUnusable, because);
        }
        Some(seen) => seen,
    };
    match used {
        Use::Serves { is_requested: true, .. } if is_awaited(seen, now) => Meaning { act: Act::Await, tell: None },
        Use::Serves { newest, names, renew_before, allowed, is_requested, .. } => {
            let wish = Wish { names, allowed, is_requested, renew_before };
            serves(seen, newest, &wish, now)
        }
        Use::Follows { newest, expiring_days, .. } => follows(seen, newest, expiring_days, now),
        Use::Watches { renew_before, .. } => watches(seen, renew_before, now),
    }
}

/// Nothing is taken; what ails the certificate itself is told.
fn watches(seen: &AcmEvidence, renew_before: Duration, now: OffsetDateTime) -> Meaning {
    let arn = &seen.certificate;
    if let Some(block) = gone(seen, false, now) {
        return Meaning { act: Act::Hold, tell: Some(block) };
    }
    let (Some(_), Some(not_after)) = (&seen.serial, seen.not_after) else {
        return hold(BlockCode::AcmUnusable, format!("{arn} has no serial number or no end of validity"));
    };
    let tell = trouble(seen, None, false, now).or_else(|| expiring(arn, not_after, renew_before, now));
    Meaning { act: Act::Keep, tell }
}

fn follows(seen: &AcmEvidence, newest: Option<&GenerationRecord>, days: u32, now: OffsetDateTime) -> Meaning {
    let mark = match seen.mark(now, days) {
        Ok(mark) => mark,
        Err(problem) => {
            let because = format!("{problem}; leaves are renewed by their own age alone");
            return hold(BlockCode::AcmUnusable, because);
        }
    };
    let answer = newest.filter(|newest| !answers_not(newest.follows.as_ref(), &mark));
    let tell = failing(seen, false).or_else(|| ending(seen, answer, now));
    Meaning { act: if answer.is_some() { Act::Keep } else { Act::Mint(mark) }, tell }
}

/// A followed certificate whose end nobody prevents: the leaves live on, and what else serves it does not.
fn ending(seen: &AcmEvidence, answer: Option<&GenerationRecord>, now: OffsetDateTime) -> Option<Block> {
    const REMEDY: &str =
        "Leaves are renewed by their own age all the same. Mend it, or follow another in certificate.follow";
    let (arn, end) = (&seen.certificate, seen.not_after?);
    if let Some(why) = why_lapsing(seen, now) {
        let because = format!("{arn}, which the stack follows, ends on {}: {why}. {REMEDY}", end.date());
        return Some(Block { code: BlockCode::AcmLapsing, because });
    }
    // Leaves that live shorter never come to this: what they follow is told within the last 45 days, above.
    let is_noticed = answer.is_some_and(|answer| now >= answer.minted_at.saturating_add(USED_WITHIN));
    if seen.eligible == Some(false) && seen.kind != AcmKind::Imported && is_noticed {
        let because = format!(
            "ACM will not renew {arn}, which the stack follows: its RenewalEligibility is INELIGIBLE, as of one that is \
             neither in use nor exported. {REMEDY}"
        );
        return Some(Block { code: BlockCode::AcmNotRenewing, because });
    }
    (end - now <= LATE).then(|| {
        let because = format!(
            "{arn}, which the stack follows, ends on {} and ACM has no newer certificate yet: look at its renewal status \
             and validation records. {REMEDY}",
            end.date()
        );
        Block { code: BlockCode::AcmExpiring, because }
    })
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
fn is_awaited(seen: &AcmEvidence, now: OffsetDateTime) -> bool {
    match seen.status {
        AcmStatus::PendingValidation => seen.requested_at.is_none_or(|at| now - at < ISSUED_WITHIN),
        AcmStatus::Missing => true,
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
    let tell =
        trouble(seen, taken, wish.is_requested, now).or_else(|| expiring(arn, not_after, wish.renew_before, now));
    Meaning { act: if taken.is_some() { Act::Keep } else { Act::Export(serial) }, tell }
}

/// ACM should have a newer one by now.
fn expiring(arn: &AcmArn, not_after: OffsetDateTime, renew_before: Duration, now: OffsetDateTime) -> Option<Block> {
    (not_after - now <= renew_before).then(|| {
        let because = format!(
            "{arn} ends on {} and ACM has no newer certificate yet; targets serve it to its end. Look at its renewal \
             status and validation records, or name another certificate in certificate.issuer",
            not_after.date()
        );
        Block { code: BlockCode::AcmExpiring, because }
    })
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
        AcmStatus::PendingValidation if is_requested => {
            let because = format!(
                "{arn} has awaited its validation for more than an hour: provision keeps its records in the zone, so see \
                 whether the public DNS answers for them (is the zone delegated?) and whether the domain's CAA record \
                 admits amazon.com. 72 hours after the request ACM gives up"
            );
            (BlockCode::AcmUnusable, because)
        }
        AcmStatus::PendingValidation => {
            let because = format!("{arn} awaits its validation: {}", validate(seen.validated_by.as_ref()));
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
    let (arn, why) = (&seen.certificate, why_lapsing(seen, now)?);
    let because = format!(
        "{arn} ends on {} and no stack uses it: {why}. Renew it, let a stack serve it, or delete it if nobody needs it",
        end.date()
    );
    Some(Block { code: BlockCode::AcmLapsing, because })
}

/// Why an issued certificate that ends soon will not be renewed, if that is so.
fn why_lapsing(seen: &AcmEvidence, now: OffsetDateTime) -> Option<String> {
    let end = seen.not_after?;
    if end <= now || end - now > LAPSING {
        return None;
    }
    let failing = seen.renewal.as_ref().filter(|renewal| is_failing(&renewal.status));
    match (&seen.kind, failing) {
        (AcmKind::Imported, _) => Some("it was imported, and ACM renews none that was".to_owned()),
        (_, Some(renewal)) => {
            let reason = renewal.reason.as_deref().unwrap_or(&renewal.status);
            Some(format!("ACM cannot renew it ({reason}): {}", remedy(seen, renewal)))
        }
        (AcmKind::Public | AcmKind::Private | AcmKind::Other(_), None) => (seen.eligible == Some(false))
            .then(|| "it is neither in use nor exported, and ACM renews no such certificate".to_owned()),
    }
}

/// ACM tried to renew it and cannot go on by itself.
fn failing(seen: &AcmEvidence, is_requested: bool) -> Option<Block> {
    let renewal = seen.renewal.as_ref().filter(|renewal| is_failing(&renewal.status))?;
    let said = match renewal.reason.as_deref() {
        None => renewal.status.clone(),
        Some(reason) => format!("{}, {reason}", renewal.status),
    };
    let remedy = if is_requested && renewal.status == "PENDING_VALIDATION" {
        "provision writes the validation records back at its next look; if this stays, see whether the public DNS answers \
         for them (is the zone delegated?)"
    } else {
        remedy(seen, renewal)
    };
    let because = format!("ACM cannot renew {} ({said}): {remedy}", seen.certificate);
    Some(Block { code: BlockCode::AcmActionRequired, because })
}

/// ACM will not or cannot renew what is served.
fn trouble(
    seen: &AcmEvidence,
    taken: Option<&GenerationRecord>,
    is_requested: bool,
    now: OffsetDateTime,
) -> Option<Block> {
    let not_eligible = || {
        // Before it was exported nothing makes it eligible, and exporting it does.
        let is_noticed = now >= taken?.minted_at.saturating_add(ELIGIBLE_WITHIN);
        (seen.eligible == Some(false) && is_noticed).then(|| {
            let because = format!(
                "ACM will not renew {}: its RenewalEligibility is INELIGIBLE although it was exported. See whether its \
                 validation records are still in place, or name another certificate in certificate.issuer",
                seen.certificate
            );
            Block { code: BlockCode::AcmNotRenewing, because }
        })
    };
    failing(seen, is_requested).or_else(not_eligible)
}

/// A serial number as ACM prints it (`0a:0b`), as it stands in the ledger: lower-case hexadecimal, no leading zeros.
pub(crate) fn plain_serial(acm: &str) -> String {
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
