//! One generation: exported, opened, checked and stored; or found. How it is stored is `espalier_aws::parameters`'
//! business.

use espalier_aws::acm::Certificates;
use espalier_aws::parameters::leaves::{Leaves, Place};
use espalier_aws::specs::Specs;
use espalier_domain::acm::request;
use espalier_domain::failure::chain;
use espalier_domain::id::{AcmArn, leaf_parameter};
use espalier_domain::record::{ExportRecord, GenerationRecord, SpecMark};
use espalier_domain::spec::{AcmSource, AllowedDomains, Manage, Spec};
use espalier_domain::work::{ExportItem, WorkResult};
use espalier_edge::EdgeError;
use espalier_pki::export::{self, ExportError, Exported, Passphrase, Wanted};
use espalier_pki::inspect::Facts;
use time::OffsetDateTime;

/// What an export works with.
#[derive(Debug)]
pub(crate) struct Exporter {
    pub(crate) specs: Specs,
    pub(crate) allowed: AllowedDomains,
    pub(crate) certificates: Certificates,
    pub(crate) leaves: Leaves,
}

impl Exporter {
    /// Makes the item's generation unless it is there.
    pub(crate) async fn export(&self, item: &ExportItem, now: OffsetDateTime) -> Result<WorkResult, EdgeError> {
        let record = match self.leaves.place(&item.stack, &item.scope, item.generation).await? {
            Place::Taken(record) => *record,
            Place::Next(newest) => self.make(item, newest.as_deref(), now).await?,
        };
        Ok(WorkResult::Minted {
            stack: item.stack.clone(),
            scope: item.scope.clone(),
            generation: item.generation,
            serial: record.serial,
        })
    }

    async fn make(
        &self,
        item: &ExportItem,
        newest: Option<&GenerationRecord>,
        now: OffsetDateTime,
    ) -> Result<GenerationRecord, EdgeError> {
        let (spec, mark) = self.spec(item).await?;
        let certificate = &self.source(&spec).await?;
        let exported = self.open(&spec, certificate, now).await?;
        is_as_planned(item, newest, certificate, exported.facts())?;
        let (bundle, anchor) = exported.assemble().map_err(|error| EdgeError::refused(chain(&error)))?;
        // Trust before leaf: what clients and probers need is there before anything below it is installed.
        self.leaves.parameters.publish_trust(&anchor.id, &anchor.pem).await?;
        let of = Origin { certificate, authority: anchor.id, trust_pem: anchor.pem, spec: mark };
        let record = record(item, of, exported.facts(), now);
        let record = self.leaves.store(&item.stack, record, &bundle, now).await?;
        tracing::info!(
            stack = %item.stack, generation = item.generation.0, serial = record.serial, because = item.because,
            "generation exported"
        );
        self.leaves.tidy(&item.stack, now).await;
        Ok(record)
    }

    /// The certificate that the spec names, or the one that was requested for it.
    async fn source(&self, spec: &Spec) -> Result<AcmArn, EdgeError> {
        let stack = &spec.stack;
        match spec.certificate.source() {
            None => Err(EdgeError::refused(format!("`certificate.issuer` of {stack} is not `acm`"))),
            Some(AcmSource::CertificateArn(named)) => Ok(named.clone()),
            Some(AcmSource::Request(_)) => {
                let made = self.leaves.ledger.requested(stack).await?;
                let made = made.filter(|made| made.request == request::mark(spec)).map(|made| made.certificate);
                made.ok_or_else(|| EdgeError::conflict(format!("no certificate was requested for {stack} yet")))
            }
        }
    }

    /// The passphrase and the encrypted key live and end here.
    async fn open(&self, spec: &Spec, certificate: &AcmArn, now: OffsetDateTime) -> Result<Exported, EdgeError> {
        let passphrase = Passphrase::random().map_err(|error| EdgeError::broken(chain(&error)))?;
        let sealed = self.certificates.export(certificate, &passphrase).await?;
        let names = &spec.certificate.dns_names;
        let wanted = Wanted { names, allowed: &self.allowed, now };
        export::open(&sealed, &passphrase, &wanted).map_err(|error| refused(certificate, &error))
    }

    async fn spec(&self, item: &ExportItem) -> Result<(Spec, SpecMark), EdgeError> {
        let (spec, mark) = self.specs.needed(&item.stack, &self.allowed).await?;
        if spec.manage == Manage::Nothing {
            return Err(EdgeError::refused(format!("`manage` of {} is `nothing`: nothing is exported", item.stack)));
        }
        Ok((spec, mark))
    }
}

/// ACM hands out what was planned, and nothing older than what is there: else somebody looks again.
fn is_as_planned(
    item: &ExportItem,
    newest: Option<&GenerationRecord>,
    certificate: &AcmArn,
    facts: &Facts,
) -> Result<(), EdgeError> {
    if facts.serial != item.serial {
        let (is, was) = (&facts.serial, &item.serial);
        return Err(EdgeError::conflict(format!("{certificate} was exported with serial {is}; {was} was planned")));
    }
    let before = newest.filter(|one| one.export.as_ref().is_some_and(|export| export.certificate == *certificate));
    match before {
        Some(before) if facts.not_before < before.not_before => Err(EdgeError::conflict(format!(
            "{certificate} was exported as it was before generation {}, which began on {}",
            before.generation,
            before.not_before.date()
        ))),
        Some(_) | None => Ok(()),
    }
}

fn refused(certificate: &AcmArn, error: &ExportError) -> EdgeError {
    EdgeError::refused(format!("the export of {certificate} is not used: {}", chain(error)))
}

/// Where a generation comes from.
struct Origin<'a> {
    certificate: &'a AcmArn,
    authority: String,
    trust_pem: String,
    spec: SpecMark,
}

fn record(item: &ExportItem, of: Origin<'_>, facts: &Facts, now: OffsetDateTime) -> GenerationRecord {
    GenerationRecord {
        scope: item.scope.clone(),
        generation: item.generation,
        parameter: leaf_parameter(&item.stack, &item.scope, item.generation),
        serial: facts.serial.clone(),
        fingerprint: facts.fingerprint.clone(),
        dns_names: facts.dns_names.clone(),
        not_before: facts.not_before,
        not_after: facts.not_after,
        minted_at: now,
        authority: of.authority,
        follows: None,
        export: Some(ExportRecord { certificate: of.certificate.clone(), trust_pem: of.trust_pem }),
        spec: Some(of.spec),
        key_type: facts.key_type,
        custody: espalier_domain::spec::Custody::default(),
        because: item.because.clone(),
    }
}

#[cfg(test)]
mod tests {
    use espalier_domain::failure::Word;
    use espalier_domain::id::{Generation, Scope, StackName};
    use espalier_domain::spec::KeyType;
    use espalier_pki::authority::Authority;
    use espalier_pki::inspect;
    use espalier_pki::profile::Serial;
    use time::Duration;

    use super::*;

    const ARN: &str = "arn:aws:acm:eu-west-1:123456789012:certificate/61f50cd4";

    fn item(serial: &str) -> ExportItem {
        ExportItem {
            stack: StackName::parse("payments").unwrap(),
            scope: Scope::shared(),
            generation: Generation(2),
            serial: serial.to_owned(),
            because: "renewed".into(),
        }
    }

    fn known(certificate: Option<&str>, not_before: OffsetDateTime) -> GenerationRecord {
        let export =
            certificate.map(|arn| ExportRecord { certificate: AcmArn::parse(arn).unwrap(), trust_pem: String::new() });
        GenerationRecord {
            scope: Scope::shared(),
            generation: Generation(1),
            parameter: String::new(),
            serial: "1".into(),
            fingerprint: String::new(),
            dns_names: Vec::new(),
            not_before,
            not_after: not_before,
            minted_at: not_before,
            authority: String::new(),
            follows: None,
            export,
            spec: None,
            key_type: None,
            custody: espalier_domain::spec::Custody::default(),
            because: String::new(),
        }
    }

    #[tokio::test]
    async fn what_acm_hands_out_is_what_was_planned_and_never_older_than_what_is_there() {
        let now = OffsetDateTime::from_unix_timestamp(1_795_000_000).unwrap();
        let serials = [Serial::random().unwrap(), Serial::random().unwrap()];
        let authority = Authority::ceremony(KeyType::EcPrime256v1, &["example.com"], now, serials).await.unwrap();
        // Any certificate will do.
        let facts = inspect::facts(authority.issuing_der()).unwrap();
        let certificate = AcmArn::parse(ARN).unwrap();
        let word = |serial: &str, newest: Option<GenerationRecord>| {
            is_as_planned(&item(serial), newest.as_ref(), &certificate, &facts).err().map(|error| error.word)
        };
        let same = facts.serial.as_str();
        assert_eq!(word(same, None), None);
        assert_eq!(word("feed", None), Some(Word::Conflict));
        assert_eq!(word(same, Some(known(Some(ARN), facts.not_before))), None, "the same once more");
        let later = facts.not_before + Duration::SECOND;
        assert_eq!(word(same, Some(known(Some(ARN), later))), Some(Word::Conflict));
        assert_eq!(word(same, Some(known(Some(&format!("{ARN}0")), later))), None, "another certificate");
        assert_eq!(word(same, Some(known(None, later))), None, "a leaf of our own");
    }
}
