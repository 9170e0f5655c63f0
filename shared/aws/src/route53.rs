//! Route 53: a hosted zone and the records at one exact name.
//!
//! A record has no tags, so ownership of ours is what it points at: an alias to our service's generated name. What to
//! make of a record that points elsewhere is the plan's decision.

mod zones;

use std::collections::BTreeSet;

use aws_config::SdkConfig;
use aws_sdk_route53::Client;
use aws_sdk_route53::types::{
    AliasTarget, Change, ChangeAction, ChangeBatch, ResourceRecord, ResourceRecordSet, RrType, VpcRegion,
};
use aws_smithy_types::error::operation::BuildError;
use espalier_domain::id::{HostName, HostedZoneId, VpcId};

use crate::error::{AwsError, Kind, during};

/// What this module calls.
pub const ACTIONS: &[&str] = &[
    GET,
    OF_VPC,
    LIST,
    CHANGE,
    zones::LIST,
    zones::CREATE,
    zones::ASSOCIATE,
    zones::DISASSOCIATE,
    zones::DELETE,
    "ec2:DescribeVpcs",
];

const GET: &str = "route53:GetHostedZone";
const OF_VPC: &str = "route53:ListHostedZonesByVPC";
const LIST: &str = "route53:ListResourceRecordSets";
const CHANGE: &str = "route53:ChangeResourceRecordSets";

/// How long resolvers keep a validation record; ACM asks seldom.
const VALIDATION_TTL_S: i64 = 300;

/// A hosted zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Its name without the trailing dot.
    pub name: String,
    /// Whether it answers only inside `vpcs`.
    pub private: bool,
    /// What its owner wrote about it.
    pub comment: String,
    /// The VPCs of this Region that a private zone is associated with.
    pub vpcs: Vec<String>,
}

/// What a record set at a name holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// `A`, `AAAA`, `CNAME`, ...
    pub kind: String,
    /// The alias target, if it is a simple alias (one without a routing policy).
    pub alias: Option<Alias>,
    /// The record in words, for a person.
    pub shown: String,
}

/// An alias target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The name it points at, lower case, without the trailing dot.
    pub domain_name: String,
    /// The hosted zone that name lives in.
    pub hosted_zone_id: String,
}

/// The hands.
#[derive(Debug, Clone)]
pub struct Route53 {
    client: Client,
    region: String,
}

impl Route53 {
    /// Builds the client.
    pub fn new(sdk: &SdkConfig) -> Self {
        let region = sdk.region().map(ToString::to_string).unwrap_or_default();
        Self { client: Client::new(sdk), region }
    }

    /// The Region that it works for; zones belong to none.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The zone, or nothing when it does not exist.
    ///
    /// # Errors
    /// When Route 53 cannot be asked.
    pub async fn zone(&self, id: &HostedZoneId) -> Result<Option<Zone>, AwsError> {
        let answer = match self.client.get_hosted_zone().id(id.as_str()).send().await.map_err(during(GET)) {
            Ok(answer) => answer,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let zone = answer.hosted_zone.ok_or_else(|| AwsError::unexpected(GET, "no zone"))?;
        let here = answer.vpcs.unwrap_or_default().into_iter();
        let here = here.filter(|vpc| vpc.vpc_region.as_ref().is_some_and(|region| region.as_str() == self.region));
        Ok(Some(Zone {
            name: bare(&zone.name),
            private: zone.config.as_ref().is_some_and(|config| config.private_zone),
            comment: zone.config.and_then(|config| config.comment).unwrap_or_default(),
            vpcs: here.filter_map(|vpc| vpc.vpc_id).collect(),
        }))
    }

    /// The private zones of this name that are associated with any of these VPCs, without those that an AWS service keeps
    /// there for itself; in the order of their ids.
    ///
    /// # Errors
    /// When Route 53 cannot be asked.
    pub async fn zones_of(&self, vpcs: &BTreeSet<&VpcId>, name: &HostName) -> Result<Vec<HostedZoneId>, AwsError> {
        let found = self.zones_in(vpcs, name).await?.into_iter();
        Ok(found.map(|(_, zone)| zone).collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// The same with the VPC of each.
    ///
    /// # Errors
    /// When Route 53 cannot be asked.
    pub async fn zones_in(
        &self,
        vpcs: &BTreeSet<&VpcId>,
        name: &HostName,
    ) -> Result<BTreeSet<(VpcId, HostedZoneId)>, AwsError> {
        let mut found = BTreeSet::new();
        for vpc in vpcs {
            let mut next = None;
            loop {
                let call = self.client.list_hosted_zones_by_vpc().vpc_id(vpc.as_str());
                let call = call.vpc_region(VpcRegion::from(self.region.as_str())).set_next_token(next);
                let page = call.send().await.map_err(during(OF_VPC))?;
                for zone in page.hosted_zone_summaries.into_iter().filter(|zone| bare(&zone.name) == name.as_str()) {
                    let is_kept_by_aws = zone.owner.is_some_and(|owner| owner.owning_service.is_some());
                    let id = HostedZoneId::parse(zone.hosted_zone_id);
                    let id = id.map_err(|error| AwsError::unexpected(OF_VPC, error.to_string()))?;
                    if !is_kept_by_aws {
                        found.insert(((*vpc).clone(), id));
                    }
                }
                next = page.next_token;
                if next.is_none() {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// The record sets at exactly this name, of every type.
    ///
    /// # Errors
    /// When Route 53 cannot be asked.
    pub async fn records(&self, zone: &HostedZoneId, name: &HostName) -> Result<Vec<Record>, AwsError> {
        Ok(self.sets(zone, name.as_str()).await?.iter().map(record).collect())
    }

    async fn sets(&self, zone: &HostedZoneId, name: &str) -> Result<Vec<ResourceRecordSet>, AwsError> {
        let mut found = Vec::new();
        // The list starts at the name and runs in order, so the first other name ends it.
        let mut call = self.client.list_resource_record_sets().hosted_zone_id(zone.as_str());
        call = call.start_record_name(name);
        loop {
            let page = call.clone().send().await.map_err(during(LIST))?;
            for set in page.resource_record_sets {
                if bare(&set.name) != name {
                    return Ok(found);
                }
                found.push(set);
            }
            if !page.is_truncated || page.next_record_name.as_deref().map(bare).as_deref() != Some(name) {
                return Ok(found);
            }
            call = call
                .set_start_record_name(page.next_record_name)
                .set_start_record_type(page.next_record_type)
                .set_start_record_identifier(page.next_record_identifier);
        }
    }

    /// What answers at a name, as far as a validation record is concerned: nothing; or the value of its one simple CNAME
    /// (lower case, without the trailing dot), or that it is something else.
    ///
    /// # Errors
    /// When Route 53 cannot be asked.
    pub async fn cname(&self, zone: &HostedZoneId, name: &str) -> Result<Option<Option<String>>, AwsError> {
        let sets = self.sets(zone, name).await?;
        Ok(match sets.as_slice() {
            [] => None,
            [only] if only.r#type == RrType::Cname && only.set_identifier.is_none() => {
                Some(only.resource_records.iter().flatten().map(|record| bare(&record.value)).next())
            }
            _ => Some(None),
        })
    }

    /// Writes a validation record: a CNAME where there was none.
    ///
    /// # Errors
    /// When Route 53 refuses or cannot be asked.
    pub async fn upsert_cname(&self, zone: &HostedZoneId, name: &str, value: &str) -> Result<(), AwsError> {
        let record = ResourceRecord::builder().value(value).build().map_err(not_built)?;
        let set = ResourceRecordSet::builder().name(name).r#type(RrType::Cname).ttl(VALIDATION_TTL_S);
        let set = set.resource_records(record).build().map_err(not_built)?;
        self.change(zone, vec![(ChangeAction::Upsert, set)]).await
    }

    /// Makes the name an alias (type A) of the target: where no record was seen, or in the place of the alias that was.
    /// What somebody else wrote there since is not overwritten: Route 53 creates no record that is there already, and
    /// deletes none that differs from what it is given; of one batch either all is done or nothing.
    ///
    /// # Errors
    /// `Conflict` when the name points elsewhere by now; else when Route 53 refuses or cannot be asked.
    pub async fn write_alias(
        &self,
        zone: &HostedZoneId,
        name: &HostName,
        former: Option<&Alias>,
        to: &Alias,
    ) -> Result<(), AwsError> {
        let mut changes = Vec::new();
        if let Some(former) = former
            && let Some(set) = self.a_record(zone, name).await?
        {
            match record(&set).alias {
                Some(alias) if alias == *to => return Ok(()),
                Some(alias) if alias == *former => changes.push((ChangeAction::Delete, set)),
                Some(_) | None => return Err(changed(name, &set)),
            }
        }
        // There is nothing to evaluate at a Lattice service's name: Route 53's guide says to choose "No".
        let target = AliasTarget::builder()
            .hosted_zone_id(&to.hosted_zone_id)
            .dns_name(&to.domain_name)
            .evaluate_target_health(false)
            .build()
            .map_err(not_built)?;
        let set = ResourceRecordSet::builder().name(name.as_str()).r#type(RrType::A).alias_target(target);
        changes.push((ChangeAction::Create, set.build().map_err(not_built)?));
        self.change(zone, changes).await.map_err(overtaken)
    }

    /// Deletes the alias (type A) if the name points at exactly this target; no A record there is done.
    ///
    /// # Errors
    /// `Conflict` when the name points elsewhere by now; else when Route 53 refuses or cannot be asked.
    pub async fn delete_alias(&self, zone: &HostedZoneId, name: &HostName, to: &Alias) -> Result<(), AwsError> {
        // Route 53 deletes only a record set that equals what it is given, so it is given what it has.
        let Some(set) = self.a_record(zone, name).await? else { return Ok(()) };
        if record(&set).alias.as_ref() != Some(to) {
            return Err(changed(name, &set));
        }
        match self.change(zone, vec![(ChangeAction::Delete, set)]).await {
            Err(error) if error.answer.message.contains(GONE) => Ok(()),
            other => other.map_err(overtaken),
        }
    }

    async fn a_record(&self, zone: &HostedZoneId, name: &HostName) -> Result<Option<ResourceRecordSet>, AwsError> {
        let sets = self.sets(zone, name.as_str()).await?;
        Ok(sets.into_iter().find(|set| set.r#type == RrType::A))
    }

    async fn change(&self, zone: &HostedZoneId, sets: Vec<(ChangeAction, ResourceRecordSet)>) -> Result<(), AwsError> {
        let mut batch = ChangeBatch::builder();
        for (action, set) in sets {
            batch =
                batch.changes(Change::builder().action(action).resource_record_set(set).build().map_err(not_built)?);
        }
        let batch = batch.build().map_err(not_built)?;
        let call = self.client.change_resource_record_sets().hosted_zone_id(zone.as_str()).change_batch(batch);
        call.send().await.map_err(during(CHANGE)).map(drop)
    }
}

/// What Route 53 says of a batch that no longer fits what is there. All of it is `InvalidChangeBatch`; only the messages
/// tell one from the other.
const GONE: &str = "was not found";
const OVERTAKEN: [&str; 3] = [GONE, "do not match", "already exists"];

/// A record that was written since the look is a conflict: another look explains it.
fn overtaken(mut error: AwsError) -> AwsError {
    if OVERTAKEN.iter().any(|words| error.answer.message.contains(words)) {
        error.kind = Kind::Conflict;
    }
    error
}

fn changed(name: &HostName, set: &ResourceRecordSet) -> AwsError {
    let mut error = AwsError::coded(CHANGE, "Changed", format!("{name} is {} by now", record(set).shown));
    error.kind = Kind::Conflict;
    error
}

#[expect(clippy::needless_pass_by_value, reason = "the shape `map_err` wants")]
fn not_built(error: BuildError) -> AwsError {
    AwsError::unexpected(CHANGE, error.to_string())
}

fn record(set: &ResourceRecordSet) -> Record {
    let kind = set.r#type.as_str().to_owned();
    let values: Vec<&str> = set.resource_records.iter().flatten().map(|record| record.value.as_str()).collect();
    let shown = match &set.alias_target {
        Some(target) => format!("{kind} alias of {}", bare(&target.dns_name)),
        None => format!("{kind} {}", values.join(" ")),
    };
    // A record set with an identifier is one of several under a routing policy: not ours, and not to be replaced.
    let simple = set.set_identifier.is_none();
    let alias = set
        .alias_target
        .as_ref()
        .filter(|_| simple)
        .map(|target| Alias { domain_name: bare(&target.dns_name), hosted_zone_id: target.hosted_zone_id.clone() });
    Record { kind, alias, shown }
}

/// A name as we compare it: lower case, no trailing dot. (Route 53 prints `*` as `\052`; no name of ours has one.)
fn bare(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}
