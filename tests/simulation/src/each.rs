//! Fleets in which each target has a leaf of its own: who takes one for another, and what becomes of it when the spec is
//! changed to one for all and back.

use espalier_domain::id::Scope;
use time::Duration;

use crate::host::Pair;
use crate::trouble::Trouble;
use crate::world::{Event, World};

/// The first of it is some hours off: there has to be something to take.
pub(crate) fn foresee(world: &mut World) {
    let hours = world.dice.between(4, 40);
    world.after(Duration::hours(i64::from(hours)), Event::Meddling);
}

impl World {
    pub(crate) fn meddle(&mut self) {
        if self.calm {
            return;
        }
        let hours = self.dice.between(4, 40);
        self.after(Duration::hours(i64::from(hours)), Event::Meddling);
        if self.dice.one_in(3) { self.change_scope() } else { self.mix_up() }
    }

    /// The spec asks for one leaf for all, or for one for each again.
    fn change_scope(&mut self) {
        self.tally.meet(Trouble::ScopeChanged);
        let each = self.policy.scope.is_each();
        self.policy.scope = if each { Scope::shared() } else { Scope::target() };
        self.tell(|| format!("the spec asks for leaves that are each target's own: {}", !each));
        self.hint();
    }

    /// A person puts the leaf on one target that is another one's.
    fn mix_up(&mut self) {
        let [one, other] = [(); 2].map(|()| usize::try_from(self.dice.roll(self.size())).unwrap_or_default());
        let Some(Pair::Ours(generation)) = self.hosts[other].serves else { return };
        let is_own = self.ledger.generation(generation).is_some_and(|record| record.scope.is_each());
        let host = &self.hosts[one];
        if one == other || !is_own || host.troubles > 0 || !host.runs || host.installing.is_some() {
            return;
        }
        let roots: String = self.ledger.authorities.iter().map(|known| known.root_pem.as_str()).collect();
        let Some(presented) = self.presents(&self.hosts[other].id, generation, &roots) else { return };
        self.tally.meet(Trouble::MixedUp);
        self.tell(|| format!("host {} is given what is host {}'s", one + 1, other + 1));
        self.hosts[one].serves = Some(Pair::Foreign(presented));
        self.hosts[one].well_since = self.now;
        self.hint();
    }
}
