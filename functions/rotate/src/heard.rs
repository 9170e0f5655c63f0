//! Events that ACM should have sent: heard, or counted as missed. Nothing is decided by them, so nothing fails with them.

use espalier_aws::evidence::Sources;
use espalier_domain::acm::{Missed, Said};
use espalier_domain::failure::chain;
use espalier_domain::id::StackName;
use espalier_domain::rotation::evidence::Evidence;
use espalier_edge::metric::{self, Unit};
use espalier_edge::{Hint, HintKind};
use time::OffsetDateTime;

/// Notes what an event of ACM's says, for the certificates that a stack uses.
pub(crate) async fn note(sources: &Sources, hint: &Hint, now: OffsetDateTime) {
    let (HintKind::Certificate, Some(said)) = (hint.kind, Said::parse(&hint.detail_type)) else { return };
    for certificate in &hint.certificates {
        if let Err(error) = sources.ledger.hear(certificate, said, now).await {
            tracing::warn!(%certificate, error = chain(&error), "it was not noted that ACM sent an event");
        }
    }
}

/// Counts the events that should have come about the certificate of a stack by now.
pub(crate) async fn listen(sources: &Sources, stack: &StackName, evidence: &Evidence, now: OffsetDateTime) {
    let Some(seen) = &evidence.acm else { return };
    let missed = sources.ledger.listen(seen, now).await.unwrap_or_else(|error| {
        tracing::warn!(%stack, error = chain(&error), "it is not known which events of ACM's came");
        Vec::new()
    });
    for one in &missed {
        let certificate = &seen.certificate;
        match one {
            Missed::Available { serial } => {
                tracing::warn!(%stack, %certificate, serial, "ACM has a new certificate, and no event said so");
            }
            Missed::Approaching { not_after } => {
                tracing::warn!(%stack, %certificate, %not_after, "the certificate ends soon, and no event said so for two days");
            }
        }
        metric::emit(now, &[("Function", "rotate")], &[("AcmEventsMissed", Unit::Count, 1.0)]);
    }
}
