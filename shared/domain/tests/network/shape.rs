//! What a seed needs: a small generator, and what two ways to the same end have to agree upon.

use std::collections::BTreeSet;

use espalier_domain::id::HostedZoneId;

use super::world::{Listener, Service, World};
use super::zones::Zone;

/// A small generator of its own (xorshift64*), so that a seed in a failure is all it takes to see it again.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number from 0 to `sides - 1`.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }
}

/// What there is, without ids and times: what two ways to the same end have to agree upon.
pub(crate) fn shape(world: &World) -> BTreeSet<String> {
    let name = |id: &str| id.split_once('-').map_or(id.to_owned(), |(kind, _)| kind.to_owned());
    let mut all = BTreeSet::new();
    all.extend(world.networks.iter().map(|one| format!("{} {:?}", one.of, one.tags)));
    all.extend(world.vpcs.iter().map(|one| format!("{:?} {:?} {:?}", one.of.1, one.of.2, one.status)));
    all.extend(world.groups.iter().map(|one| format!("{:?} {:?} {:?}", one.of, one.status, one.tags)));
    // A policy out of force is nothing.
    let in_force = |of: &Service| Service { policy: of.policy.clone().filter(|_| of.is_iam), ..of.clone() };
    let mut services: Vec<_> =
        world.services.iter().map(|one| format!("{:?} {:?} {:?}", in_force(&one.of), one.status, one.tags)).collect();
    for zone in &world.zones {
        services.iter_mut().for_each(|one| *one = one.replace(zone.id.as_str(), &zone.name));
    }
    all.extend(services);
    let kinds = |one: &Listener| one.forwards.iter().map(|(id, weight)| (name(id), *weight)).collect::<Vec<_>>();
    all.extend(world.listeners.iter().map(|one| format!("{} {:?}", one.of.port, kinds(&one.of))));
    all.extend(world.associations.iter().map(|one| format!("{:?}", one.status)));
    all.extend(world.logs.iter().map(|one| format!("logs to {}", one.of.1)));
    let elsewhere = world.estate.former_ingress.iter().map(|(_, rule)| rule);
    let rules = world.estate.ingress.iter().chain(elsewhere);
    all.extend(rules.map(|one| format!("{:?} {:?}", one.source, one.ports)));
    let is_own = |zone: &HostedZoneId| zone.as_str().starts_with("ZOWN");
    all.extend(world.other_records.keys().filter(|zone| !is_own(zone)).map(|zone| format!("record in {zone}")));
    let holds = |zone: &Zone| world.record_in(&zone.id).is_some();
    all.extend(world.zones.iter().map(|one| format!("zone {} {:?} record {}", one.name, one.vpcs, holds(one))));
    all.insert(format!("serves {}, record {}", world.serves(), world.record.is_some()));
    all
}
