//! Who uses a certificate that an event names; and what becomes of one that nobody does: it is ignored, and told once if it
//! will end without being renewed.

use espalier_aws::error::Kind;
use espalier_aws::evidence::Sources;
use espalier_domain::acm::meaning;
use espalier_domain::failure::chain;
use espalier_domain::id::{AcmArn, StackName};
use espalier_domain::record::LapsingRecord;
use espalier_domain::spec::{self, Spec};
use espalier_edge::EdgeError;
use espalier_edge::metric::{self, Unit};
use time::OffsetDateTime;

/// Certificates of one event that are asked about: a notice of AWS Health may name hundreds, ACM answers ten a second, and
/// its own events name each of them alone.
const ASKED: usize = 10;

/// The stacks that use one of these certificates. Those that nobody uses are told if they lapse.
pub(crate) async fn users(
    sources: &Sources,
    certificates: &[AcmArn],
    now: OffsetDateTime,
) -> Result<Vec<StackName>, EdgeError> {
    let found = sources.specs.all().await?;
    let specs: Vec<Option<Spec>> = found.iter().map(|found| spec::parse(&found.text, &sources.allowed).ok()).collect();
    let mut users = Vec::new();
    let mut unused = certificates.to_vec();
    for (found, spec) in found.iter().zip(&specs) {
        let (Ok(stack), Some(spec)) = (StackName::parse(found.name.as_str()), spec) else { continue };
        let used = used_by(sources, &stack, spec, certificates).await?;
        unused.retain(|arn| !used.contains(arn));
        if !used.is_empty() {
            users.push(stack);
        }
    }
    // Of a spec that cannot be read nobody knows what it uses.
    if specs.iter().all(Option::is_some) {
        for arn in unused.iter().take(ASKED) {
            if let Err(error) = tell(sources, arn, now).await {
                tracing::warn!(certificate = %arn, error = error.text, "a certificate that no stack uses was not looked at");
            }
        }
    }
    Ok(users)
}

/// Which of these certificates a stack uses. Which one was requested for it is in the ledger.
async fn used_by(
    sources: &Sources,
    stack: &StackName,
    spec: &Spec,
    certificates: &[AcmArn],
) -> Result<Vec<AcmArn>, EdgeError> {
    let requested = match spec.certificate.request() {
        Some(_) => sources.ledger.requested(stack).await?.map(|made| made.certificate),
        None => None,
    };
    let uses = |arn: &&AcmArn| spec.certificate.names(arn) || requested.as_ref() == Some(*arn);
    Ok(certificates.iter().filter(uses).cloned().collect())
}

/// Tells a certificate that lapses, once for each end of its validity.
async fn tell(sources: &Sources, certificate: &AcmArn, now: OffsetDateTime) -> Result<(), EdgeError> {
    let seen = match sources.certificates.describe(certificate).await {
        Ok(seen) => seen,
        // Another account's, which it has not tagged for us: its own business.
        Err(error) if error.kind == Kind::Denied => return Ok(()),
        Err(error) => return Err(EdgeError::broken(chain(&error))),
    };
    let (Some(block), Some(not_after)) = (meaning(None, Some(&seen), now).tell, seen.not_after) else { return Ok(()) };
    let told = LapsingRecord { certificate: certificate.clone(), not_after, told_at: now };
    if sources.ledger.tell_lapsing(&told).await? {
        tracing::warn!(code = ?block.code, because = block.because, "a certificate that no stack uses lapses");
        metric::emit(now, &[("Function", "rotate")], &[("Lapsing", Unit::Count, 1.0)]);
    }
    Ok(())
}
