//! What of the user's infrastructure a spec means: the instances it selects, and the rules of the security group it names.

use espalier_domain::network::{Estate, SeenInstance, may_have_leftovers};
use espalier_domain::spec::{Select, Spec};

use super::world::World;

impl World {
    /// The estate with the rules of the group that the spec names, and those of ours in others.
    pub(crate) fn rules(&self, spec: &Spec) -> Estate {
        let mut estate = self.estate.clone();
        let wanted = &spec.targets.security_group_id;
        if *wanted != self.group {
            let home = std::mem::take(&mut estate.ingress).into_iter().map(|rule| (self.group.clone(), rule));
            let all: Vec<_> = home.chain(std::mem::take(&mut estate.former_ingress)).collect();
            let (here, former): (Vec<_>, Vec<_>) = all.into_iter().partition(|(group, _)| group == wanted);
            estate.ingress = here.into_iter().map(|(_, rule)| rule).collect();
            (estate.other_ingress, estate.former_ingress) = (Vec::new(), former);
        }
        if !may_have_leftovers(spec, self.seen_service(spec).as_ref()) {
            estate.former_ingress.clear();
        }
        estate
    }

    /// Who is selected: by address whoever the spec says, else those of the instances that there are. Instances of Auto
    /// Scaling groups carry no other tag and are in no list of ids; what becomes of them, only who selects their group asks.
    pub(crate) fn selected(&self, spec: &Spec) -> Vec<SeenInstance> {
        let instances = self.estate.instances.iter().filter(|one| one.scaling.is_none());
        match &spec.targets.select {
            Select::Addresses(all) => {
                all.iter().map(|one| SeenInstance::at(one.target(), spec.network.vpc_id.clone())).collect()
            }
            Select::Hosts(all) => all
                .iter()
                .map(|one| SeenInstance::at(espalier_domain::id::TargetId::named(one), spec.network.vpc_id.clone()))
                .collect(),
            Select::InstanceIds(ids) => instances.filter(|one| ids.contains(&one.id)).cloned().collect(),
            Select::Tag { key, value } => {
                let is_tagged = |one: &&SeenInstance| {
                    self.tagged.get(one.id.as_str()).is_some_and(|tag| *tag == (key.clone(), value.clone()))
                };
                let is_first = !matches!(&self.first, Select::Tag { .. }) || self.first == spec.targets.select;
                instances.filter(|one| is_first || is_tagged(one)).cloned().collect()
            }
            Select::AutoScalingGroups(names) => {
                let is_in = |one: &&SeenInstance| one.scaling.as_ref().is_some_and(|it| names.contains(&it.group));
                self.estate.instances.iter().filter(is_in).cloned().collect()
            }
        }
    }
}
