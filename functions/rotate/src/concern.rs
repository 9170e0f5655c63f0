//! Which stacks a hint concerns. When in doubt, all of them: a look too many costs little.

use espalier_aws::specs::Found;
use espalier_domain::id::{AcmArn, StackName, TargetId};
use espalier_domain::spec::{self, AllowedDomains, Select, Spec};
use espalier_edge::{Hint, HintKind};

/// What a hint asks to be looked at.
#[derive(Debug, PartialEq)]
pub(crate) enum Concern {
    /// Nothing of ours.
    Nobody,
    /// One stack, by name.
    One(StackName),
    /// Those that serve or follow one of these certificates, or had one of them requested for them.
    Users(Vec<AcmArn>),
    /// The stacks that pass the filter.
    Some(Filter),
}

/// Which of all the stacks.
#[derive(Debug, PartialEq)]
pub(crate) enum Filter {
    /// Every one.
    All,
    /// Those that may have one of these instances among their targets.
    Selects(Vec<TargetId>),
}

/// Reads a hint.
pub(crate) fn of(hint: &Hint) -> Concern {
    if let Some(stack) = &hint.stack {
        return Concern::One(stack.clone());
    }
    match hint.kind {
        HintKind::Certificate | HintKind::Health => {
            let named = hint.certificates.clone();
            if named.is_empty() { Concern::Some(Filter::All) } else { Concern::Users(named) }
        }
        HintKind::Instance | HintKind::Command | HintKind::Own if !hint.instances.is_empty() => {
            Concern::Some(Filter::Selects(hint.instances.clone()))
        }
        // Leaves and roots are parameters, too, and we have just written them ourselves.
        HintKind::Parameter => Concern::Nobody,
        HintKind::Sweep | HintKind::Spec | HintKind::Command | HintKind::Instance | HintKind::Own => {
            Concern::Some(Filter::All)
        }
    }
}

impl Filter {
    /// The stacks among these specs that pass, sorted. What cannot be read passes no filter but `All`, where its block
    /// is reported; a parameter whose name is no stack's is not ours to judge.
    pub(crate) fn pick(&self, specs: &[Found], allowed: &AllowedDomains) -> Vec<StackName> {
        specs
            .iter()
            .filter(|found| match self {
                Self::All => true,
                Self::Selects(_) => spec::parse(&found.text, allowed).is_ok_and(|spec| self.passes(&spec)),
            })
            .filter_map(|found| StackName::parse(found.name.as_str()).ok())
            .collect()
    }

    fn passes(&self, spec: &Spec) -> bool {
        match self {
            Self::All => true,
            Self::Selects(instances) => match &spec.targets.select {
                Select::InstanceIds(ids) => instances.iter().any(|instance| ids.contains(instance)),
                Select::Addresses(all) => {
                    let is_at = |instance: &TargetId| {
                        all.iter().any(|one| {
                            one.node.as_ref().is_some_and(|node| node.as_str() == instance.as_str())
                                || instance.address() == Some(one.address)
                        })
                    };
                    instances.iter().any(is_at)
                }
                Select::Hosts(all) => instances.iter().filter_map(TargetId::host).any(|host| all.contains(&host)),
                // Whether it has the tag is not in the event.
                Select::Tag { .. } | Select::AutoScalingGroups(_) => true,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(kind: HintKind) -> Hint {
        Hint {
            kind,
            source: "aws.acm".into(),
            detail_type: String::new(),
            stack: None,
            certificates: Vec::new(),
            instances: Vec::new(),
            scaling_group: None,
            command_id: None,
            event: None,
        }
    }

    #[test]
    fn a_hint_concerns_what_it_names_and_else_everybody() {
        let stack = StackName::parse("payments").unwrap();
        let named = Hint { stack: Some(stack.clone()), ..hint(HintKind::Command) };
        assert_eq!(of(&named), Concern::One(stack));
        let arn = AcmArn::parse("arn:aws:acm:eu-west-1:000000000000:certificate/61f50cd4").unwrap();
        let renewed = Hint { certificates: vec![arn.clone()], ..hint(HintKind::Certificate) };
        assert_eq!(of(&renewed), Concern::Users(vec![arn.clone()]));
        let both = vec![arn.clone(), AcmArn::parse(format!("{arn}0")).unwrap()];
        let notice = Hint { certificates: both.clone(), ..hint(HintKind::Health) };
        assert_eq!(of(&notice), Concern::Users(both));
        for kind in [HintKind::Sweep, HintKind::Certificate, HintKind::Instance, HintKind::Health] {
            assert_eq!(of(&hint(kind)), Concern::Some(Filter::All), "{kind:?}");
        }
        assert_eq!(of(&hint(HintKind::Parameter)), Concern::Nobody);
        let target = TargetId::parse("10.0.1.5").unwrap();
        let asked = Hint { instances: vec![target.clone()], ..hint(HintKind::Own) };
        assert_eq!(of(&asked), Concern::Some(Filter::Selects(vec![target])));
    }

    #[test]
    fn a_spec_that_cannot_be_read_is_seen_by_a_sweep_only() {
        let specs = [("payments", "{"), ("Not A Stack", "{")]
            .map(|(name, text)| Found { name: name.to_owned(), text: text.to_owned() });
        let allowed = AllowedDomains::parse("example.com").unwrap();
        assert_eq!(Filter::All.pick(&specs, &allowed), [StackName::parse("payments").unwrap()]);
        assert_eq!(Filter::Selects(Vec::new()).pick(&specs, &allowed), []);
    }
}
