//! The certificate that a spec asks Espalier to request of ACM, as something to reconcile: ACM to ask, the ledger to
//! remember by, Route 53 for the validation records. No key can be reached from here: only `export` takes any out of ACM.

use std::collections::BTreeMap;

use espalier_aws::AwsError;
use espalier_aws::acm::Certificates;
use espalier_aws::ledger::Ledger;
use espalier_aws::route53::Route53;
use espalier_domain::acm::request::{self, Action, Seen, Wish, Zone};
use espalier_domain::acm::{AcmEvidence, AcmStatus};
use espalier_domain::plan::Plan;
use espalier_domain::record::RequestedRecord;
use espalier_domain::spec::Spec;
use espalier_reconcile::World;
use time::OffsetDateTime;

use crate::estate::of_ledger;

/// One stack's certificate.
pub(crate) struct Requested<'a> {
    pub(crate) certificates: &'a Certificates,
    pub(crate) route53: &'a Route53,
    pub(crate) ledger: &'a Ledger,
    pub(crate) spec: &'a Spec,
}

impl World for Requested<'_> {
    type Observed = Seen;
    type Action = Action;
    type Error = AwsError;

    async fn observe(&self) -> Result<Seen, AwsError> {
        // Nothing is asked for a stack that requests nothing.
        let Some(wanted) = request::wanted(self.spec) else { return Ok(Seen::default()) };
        let remembered = self.ledger.requested(&self.spec.stack).await.map_err(of_ledger)?;
        let certificate = self.certificate(remembered.as_ref()).await?;
        let zone = self.route53.zone(&wanted.hosted_zone_id).await?;
        let zone = zone.map(|zone| Zone { name: zone.name, is_private: zone.private });
        let mut answers = BTreeMap::new();
        let records = certificate.as_ref().map(|one| one.validation.as_slice()).unwrap_or_default();
        for record in records.iter().filter(|_| zone.is_some()) {
            if let Some(held) = self.route53.cname(&wanted.hosted_zone_id, &record.name).await? {
                answers.insert(record.name.clone(), held);
            }
        }
        Ok(Seen { remembered, certificate, zone, answers })
    }

    fn plan(&self, seen: &Seen, _: OffsetDateTime) -> Plan<Action> {
        request::plan(self.spec, seen)
    }

    async fn apply(&self, action: &Action) -> Result<(), AwsError> {
        match action {
            Action::Request(wish) => {
                let certificate = self.certificates.request(wish).await?;
                // Should nobody get to write it down, the tags lead to it.
                self.remember(&RequestedRecord { certificate, request: request::mark(self.spec) }).await
            }
            Action::Remember(record) => self.remember(record).await,
            Action::WriteRecord { hosted_zone_id, record } => {
                self.route53.upsert_cname(hosted_zone_id, &record.name, &record.value).await
            }
        }
    }

    fn render(&self, action: &Action) -> String {
        action.to_string()
    }
}

impl Requested<'_> {
    /// The one that was written down, if it is for what is wanted now and still there; else the one that the tags lead to.
    async fn certificate(&self, remembered: Option<&RequestedRecord>) -> Result<Option<AcmEvidence>, AwsError> {
        if let Some(record) = remembered.filter(|record| record.request == request::mark(self.spec)) {
            let seen = self.certificates.describe(&record.certificate).await?;
            if seen.status != AcmStatus::Missing {
                return Ok(Some(seen));
            }
        }
        let wish: Wish = request::wish(self.spec, remembered);
        Ok(request::choose(self.certificates.tagged(&wish).await?))
    }

    async fn remember(&self, record: &RequestedRecord) -> Result<(), AwsError> {
        self.ledger.record_requested(&self.spec.stack, record).await.map_err(of_ledger)
    }
}
