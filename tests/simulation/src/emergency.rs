//! Somebody declares what was issued unsafe: when, and the promises about it.

use espalier_domain::id::{Caller, Generation, Reason};
use espalier_domain::plan::Plan;
use espalier_domain::rotation::emergency::{Declaration, Ruling, rule};
use espalier_domain::rotation::evidence::Evidence;
use espalier_domain::work::{DeliverItem, WorkItem};
use time::Duration;

use crate::dice::Dice;
use crate::host::Pair;
use crate::oracle::{Broken, SAFE, hold};
use crate::trouble::Trouble;
use crate::world::{Event, World};

/// How long all has to be well before nobody may serve what is unsafe any more: the longest pause of a target that failed,
/// and sweeps that were missed.
const REPLACED: Duration = Duration::hours(30);

/// One life in three has an emergency. Its dice are its own: the others are what they would be without.
pub(crate) fn foresee(world: &mut World, seed: u64) {
    let mut dice = Dice::new(seed ^ 0x0e4e_49e1);
    if dice.one_in(3) {
        let hours = dice.between(6, 150);
        world.after(Duration::hours(i64::from(hours)), Event::Emergency { again: false });
    }
}

impl World {
    /// What `rotate` does (`functions/rotate/src/emergency.rs`); whoever gets no answer asks again.
    pub(crate) fn declare(&mut self, again: bool) -> Result<(), Broken> {
        let Some(evidence) = self.look() else {
            self.after(Duration::minutes(10), Event::Emergency { again });
            return Ok(());
        };
        let declaration = Declaration {
            through: None,
            caller: Caller::parse("arn:aws:iam::123456789012:user/jane").expect("a principal"),
            reason: Reason::parse("leaked").expect("a reason"),
            request: format!("r-{}", self.tally.plans),
        };
        match rule(&evidence, &declaration) {
            Ruling::Refused(_) => self.after(Duration::hours(1), Event::Emergency { again }),
            Ruling::Known(_) => self.tell(|| "an emergency that is known".into()),
            Ruling::Declare(record) => {
                self.tell(|| format!("emergency: generation {} and before", record.through));
                self.ledger.emergency = Some(record);
            }
        }
        self.tally.meet(if again { Trouble::EmergencyAgain } else { Trouble::Emergency });
        if !again {
            let minutes = self.dice.between(0, 900);
            self.after(Duration::minutes(i64::from(minutes)), Event::Emergency { again: true });
        }
        self.look_and_start(0)
    }

    pub(crate) fn is_unsafe(&self, generation: Generation) -> bool {
        self.ledger.emergency.as_ref().is_some_and(|emergency| generation.0 <= emergency.through.0)
    }

    /// All has been well for long: nobody serves what is unsafe.
    pub(crate) fn examine_safety(&self) -> Result<(), Broken> {
        let Some(emergency) = &self.ledger.emergency else { return Ok(()) };
        let since = self.now - REPLACED;
        let shared = self.current.is_none_or(|trouble| !trouble.keeps_from_renewing());
        let all_well = self.hosts.iter().all(|host| host.troubles == 0 && host.well_since <= since);
        if emergency.at > since || self.well_since > since || !shared || !all_well {
            return Ok(());
        }
        for host in &self.hosts {
            let safe = !matches!(host.serves, Some(Pair::Ours(generation)) if self.is_unsafe(generation));
            hold(safe, SAFE, || format!("{} still shows {:?}, {REPLACED} after {emergency:?}", host.id, host.serves))?;
        }
        Ok(())
    }

    /// What is unsafe is replaced at once, and neither handed out, nor confirmed, nor what anybody would go back to.
    pub(crate) fn examine_unsafe(
        &self,
        evidence: &Evidence,
        plan: &Plan<WorkItem>,
        sent: &[&DeliverItem],
    ) -> Result<(), Broken> {
        let Some(emergency) = &evidence.emergency else { return Ok(()) };
        let is_unsafe = |generation: Generation| generation.0 <= emergency.through.0;
        let can_sign = evidence.authorities.iter().any(|authority| authority.not_after > evidence.now);
        let newest = evidence.generations.last().is_some_and(|leaf| is_unsafe(leaf.generation));
        let mints = plan.steps.iter().any(|step| matches!(step.action, WorkItem::Mint(_)));
        let anybody = evidence.targets.iter().any(|target| target.wanted);
        hold(!newest || !can_sign || !anybody || mints, SAFE, || format!("nothing is minted: {plan:?}"))?;
        for item in sent {
            hold(!is_unsafe(item.generation), SAFE, || format!("{item:?}"))?;
            let floors = evidence.targets.iter().filter(|target| item.targets.contains(&target.target));
            let back = floors.filter_map(|target| target.floor()).any(is_unsafe);
            hold(!back || item.confirm_s == 0, SAFE, || format!("it would go back to what is unsafe: {item:?}"))?;
        }
        Ok(())
    }
}
