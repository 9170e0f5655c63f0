//! The calls of the simulated world, with their refusals.

use std::net::IpAddr;

use espalier_domain::id::{TargetId, VpcId};
use espalier_domain::network::{Action, Estate, Life, SeenRecord, Status, TargetStatus};
use espalier_domain::spec::TargetKind;
use espalier_domain::tag;

use super::world::{Answer, Group, Listener, Service, Tags, Thing, World, dns_entry, rule};

impl World {
    /// Makes one call.
    #[allow(clippy::too_many_lines, reason = "one arm per call")]
    pub(crate) fn call(&mut self, action: &Action) -> Answer {
        match action {
            Action::CreateServiceNetwork { name, tags, token } => {
                if !self.is_new(token, action)? {
                    return Ok(());
                }
                refuse(self.networks.iter().any(|one| one.of == *name), "1.7: the name is taken")?;
                let id = self.id("sn-");
                self.networks.push(Thing { id, tags: tags.clone(), status: Status::Active, of: name.clone() });
                Ok(())
            }
            Action::AssociateVpc { network_id, vpc_id, security_group_ids, tags, token } => {
                if !self.is_new(token, action)? {
                    return Ok(());
                }
                refuse(!self.networks.iter().any(|one| one.id == *network_id), "no such network")?;
                refuse(self.vpcs.iter().any(|one| one.of.1 == *vpc_id), "1.8: one network per VPC")?;
                refuse(!(1..=5).contains(&security_group_ids.len()), "1.8: 1 to 5 groups")?;
                let of = (network_id.clone(), vpc_id.clone(), security_group_ids.clone());
                let (id, tags) = (self.id("snva-"), self.fate(tags));
                self.vpcs.push(Thing { id, tags, status: Status::Creating, of });
                Ok(())
            }
            Action::UpdateVpcAssociation { association_id, security_group_ids, .. } => {
                let is_bad = Self::is_bad(&mut self.bad_updates);
                let one = find(&mut self.vpcs, association_id)?;
                let is_settled = matches!(one.status, Status::Active | Status::UpdateFailed(_));
                refuse(!is_settled, "1.6: not active")?;
                refuse(!(1..=5).contains(&security_group_ids.len()), "1.5: the list cannot be emptied")?;
                one.status = Status::Updating;
                if is_bad {
                    one.tags.insert("bad".into(), String::new());
                } else {
                    one.of.2 = security_group_ids.clone();
                }
                Ok(())
            }
            Action::CreateService { name, custom_domain_name, idle_timeout_seconds, tags, token } => {
                if !self.is_new(token, action)? {
                    return Ok(());
                }
                refuse(self.services.iter().any(|one| one.of.name == *name), "1.7: the name is taken")?;
                let idle = idle_timeout_seconds.unwrap_or(60);
                let of = Service { idle, ..Service::new(name, custom_domain_name.as_str()) };
                let (id, tags) = (self.id("svc-"), self.fate(tags));
                self.services.push(Thing { id, tags, status: Status::Creating, of });
                Ok(())
            }
            Action::UpdateIdleTimeout { service_id, idle_timeout_seconds, .. } => {
                let one = find(&mut self.services, service_id)?;
                refuse(one.status != Status::Active, "1.6: not active")?;
                one.of.idle = *idle_timeout_seconds;
                Ok(())
            }
            Action::PutAuthPolicy { service_id, policy, .. } => {
                refuse(policy.contains('\n'), "1.9: newlines")?;
                find(&mut self.services, service_id)?.of.policy = Some(policy.clone());
                Ok(())
            }
            Action::RequireAuth { service_id, .. } => {
                find(&mut self.services, service_id)?.of.is_iam = true;
                Ok(())
            }
            Action::DropAuth { service_id, .. } => {
                let one = find(&mut self.services, service_id)?;
                (one.of.is_iam, one.of.policy) = (false, None);
                Ok(())
            }
            Action::SubscribeAccessLogs { .. } | Action::UpdateAccessLogs { .. } | Action::DeleteAccessLogs { .. } => {
                self.logs_call(action)
            }
            Action::AssociateService { network_id, service_id, tags, token } => {
                if !self.is_new(token, action)? {
                    return Ok(());
                }
                refuse(find(&mut self.services, service_id)?.status != Status::Active, "1.6: service not active")?;
                let of = (network_id.clone(), service_id.clone());
                refuse(self.associations.iter().any(|one| one.of == of), "already associated")?;
                let (id, tags) = (self.id("snsa-"), self.fate(tags));
                self.associations.push(Thing { id, tags, status: Status::Creating, of });
                Ok(())
            }
            Action::CreateTargetGroup { .. }
            | Action::UpdateHealthCheck { .. }
            | Action::RegisterTargets { .. }
            | Action::DeregisterTargets { .. }
            | Action::DeleteTargetGroup { .. } => self.group_call(action),
            Action::CreateListener { .. } | Action::UpdateListener { .. } => self.listener_call(action),
            Action::WriteRecord { .. }
            | Action::DeleteRecord { .. }
            | Action::AuthorizeIngress { .. }
            | Action::RevokeIngress { .. } => self.estate_call(action),
            Action::CreatePrivateZone { .. }
            | Action::AssociateZone { .. }
            | Action::DisassociateZone { .. }
            | Action::DeletePrivateZone { .. } => self.zone_call(action),
            Action::CompleteLifecycleAction { group, hook, instance } => self.complete(group, hook, instance.as_str()),
            Action::Tag { arn, tags, .. } => self.tag(arn, tags),
            Action::DeleteServiceAssociation { association_id } => {
                let is_bad = Self::is_bad(&mut self.bad_deletions);
                delete(find(&mut self.associations, association_id)?, is_bad)
            }
            Action::DeleteListener { listener_id, .. } => {
                find(&mut self.listeners, listener_id)?;
                self.listeners.retain(|one| one.id != *listener_id);
                Ok(())
            }
            Action::DeleteService { service_id, .. } => {
                refuse(self.associations.iter().any(|one| one.of.1 == *service_id), "1.6: still associated")?;
                let is_bad = Self::is_bad(&mut self.bad_deletions);
                delete(find(&mut self.services, service_id)?, is_bad)
            }
            Action::DeleteVpcAssociation { association_id, .. } => {
                let is_bad = Self::is_bad(&mut self.bad_deletions);
                delete(find(&mut self.vpcs, association_id)?, is_bad)
            }
            Action::DeleteServiceNetwork { network_id, .. } => {
                let is_used = self.vpcs.iter().any(|one| one.of.0 == *network_id)
                    || self.associations.iter().any(|one| one.of.0 == *network_id);
                refuse(is_used, "1.6: still associated")?;
                find(&mut self.networks, network_id)?;
                // A network has no status: it is gone at once.
                self.networks.retain(|one| one.id != *network_id);
                Ok(())
            }
        }
    }

    fn group_call(&mut self, action: &Action) -> Answer {
        match action {
            Action::CreateTargetGroup { want, tags, token } => {
                if !self.is_new(token, action)? {
                    return Ok(());
                }
                refuse(self.groups.iter().any(|one| one.of.name == want.name), "1.7: the name is taken")?;
                refuse(want.name.len() > 32 || want.name.starts_with("tg-"), "1.7: name")?;
                let (name, vpc, check) = (want.name.clone(), want.vpc_id.clone(), want.health_check.clone());
                let (id, tags) = (self.id("tg-"), self.fate(tags));
                let of = Group { name, vpc, kind: want.kind, port: want.port, check, targets: Default::default() };
                self.groups.push(Thing { id, tags, status: Status::Creating, of });
                Ok(())
            }
            Action::UpdateHealthCheck { target_group_id, health_check, .. } => {
                let one = find(&mut self.groups, target_group_id)?;
                refuse(one.status != Status::Active, "1.6: not active")?;
                one.of.check.clone_from(health_check);
                Ok(())
            }
            Action::RegisterTargets { target_group_id, targets, port, .. } => {
                refuse(!(1..=100).contains(&targets.len()), "1.4: 1 to 100 targets per call")?;
                let estate = self.estate.clone();
                let proven = |id: &str| !self.unseen.contains(id) && !self.faults.contains_key(id);
                assert!(targets.iter().all(|id| proven(id.as_str())), "registered without proof: {targets:?}");
                let one = find(&mut self.groups, target_group_id)?;
                refuse(one.status != Status::Active, "1.4: not active")?;
                refuse(one.of.targets.len() + targets.len() > 1_000, "1.8: 1,000 targets per group")?;
                for target in targets {
                    takes(one.of.kind, &one.of.vpc, target, &estate)?;
                    let place = (target.to_string(), *port);
                    let is_draining = one.of.targets.get(&place) == Some(&TargetStatus::Draining);
                    refuse(is_draining, "unverified: registering while draining")?;
                    one.of.targets.entry(place).or_insert(TargetStatus::Initial);
                }
                Ok(())
            }
            Action::DeregisterTargets { target_group_id, targets, .. } => {
                refuse(!(1..=100).contains(&targets.len()), "1.4: 1 to 100 targets per call")?;
                let (now, last) = (self.now, self.last_clients.get(target_group_id).copied().unwrap_or_default());
                let one = find(&mut self.groups, target_group_id)?;
                let mut there = one.of.targets.keys().peekable();
                let is_emptied = there.peek().is_some() && there.all(|place| targets.contains(place));
                // Its Auto Scaling group takes the last one away whatever we do.
                let is_going = |id: &str| {
                    let mut instances = self.estate.instances.iter();
                    instances.any(|one| {
                        one.id.as_str() == id && one.scaling.as_ref().is_some_and(|s| s.life == Life::GoingWaits)
                    })
                };
                let is_emptied = is_emptied && !targets.iter().all(|(id, _)| is_going(id));
                // 1.1: a connection lives up to 10 minutes; 1.3: draining is about one.
                let cuts = is_emptied && now - last < 600;
                assert!(!cuts, "cuts off clients that came {} s ago", now - last);
                for place in targets {
                    let status = one.of.targets.get_mut(place).ok_or("not registered")?;
                    *status = TargetStatus::Draining;
                }
                Ok(())
            }
            Action::DeleteTargetGroup { target_group_id, .. } => {
                let is_used = self.listeners.iter().any(|one| one.of.uses(target_group_id));
                refuse(is_used, "1.6: used by a listener")?;
                let is_bad = Self::is_bad(&mut self.bad_deletions);
                let one = find(&mut self.groups, target_group_id)?;
                refuse(!one.of.targets.is_empty(), "1.6: has targets")?;
                delete(one, is_bad)
            }
            other => panic!("{other:?} is not about target groups"),
        }
    }

    fn logs_call(&mut self, action: &Action) -> Answer {
        match action {
            Action::SubscribeAccessLogs { service_id, destination, tags, token, .. } => {
                if !self.is_new(token, action)? {
                    return Ok(());
                }
                find(&mut self.services, service_id)?;
                let (id, of) = (self.id("als-"), (service_id.clone(), destination.to_string()));
                self.logs.push(Thing { id, tags: tags.clone(), status: Status::Active, of });
            }
            Action::UpdateAccessLogs { subscription_id, destination, .. } => {
                find(&mut self.logs, subscription_id)?.of.1 = destination.to_string();
            }
            Action::DeleteAccessLogs { subscription_id, .. } => {
                find(&mut self.logs, subscription_id)?;
                self.logs.retain(|one| one.id != *subscription_id);
            }
            other => panic!("{other:?} is not about access logs"),
        }
        Ok(())
    }

    fn listener_call(&mut self, action: &Action) -> Answer {
        match action {
            Action::CreateListener { service_id, port, target_group_id, tags, token, .. } => {
                if !self.is_new(token, action)? {
                    return Ok(());
                }
                refuse(find(&mut self.services, service_id)?.status != Status::Active, "1.6: service not active")?;
                refuse(find(&mut self.groups, target_group_id)?.status != Status::Active, "1.6: group not active")?;
                let there = self.listeners.iter().any(|one| one.of.service == *service_id && one.of.port == *port);
                refuse(there, "one listener per port")?;
                let (forwards, changed_at) = (vec![(target_group_id.clone(), 100)], self.now);
                let of = Listener { service: service_id.clone(), port: *port, forwards, changed_at };
                let id = self.id("listener-");
                self.listeners.push(Thing { id, tags: tags.clone(), status: Status::Active, of });
                Ok(())
            }
            Action::UpdateListener { listener_id, forwards, .. } => {
                refuse(!(1..=10).contains(&forwards.len()), "1.1: up to 10 target groups")?;
                for (group, weight) in forwards {
                    refuse(find(&mut self.groups, group)?.status != Status::Active, "1.6: group not active")?;
                    refuse(*weight > 999, "1.1: weight 0 to 999")?;
                }
                let now = self.now;
                let of = &mut find(&mut self.listeners, listener_id)?.of;
                (of.forwards, of.changed_at) = (forwards.clone(), now);
                Ok(())
            }
            other => panic!("{other:?} is not about listeners"),
        }
    }

    fn estate_call(&mut self, action: &Action) -> Answer {
        match action {
            Action::WriteRecord { hosted_zone_id, former, target, .. } => {
                let ours = self.services.iter().any(|one| is_some_ones(&one.tags) && dns_entry(one) == *target);
                refuse(!ours, "points nowhere")?;
                let is_gone = hosted_zone_id.as_str().starts_with("ZOWN")
                    && self.zones.iter().all(|zone| zone.id != *hosted_zone_id);
                refuse(is_gone, "no such zone")?;
                let named = self.services.iter().any(|one| tag::zones(&one.tags).contains(hosted_zone_id));
                assert!(named, "a record in {hosted_zone_id}, of which nobody will know");
                let there = self.record_in(hosted_zone_id).map(|record| record.alias);
                let fits = there.is_none_or(|alias| alias.is_some() && alias == *former);
                refuse(!fits, "Route 53: InvalidChangeBatch")?;
                self.write_record(hosted_zone_id, Some(SeenRecord { alias: Some(target.clone()) }));
            }
            Action::DeleteRecord { hosted_zone_id, target, .. } => {
                let seen = self.record_in(hosted_zone_id);
                let there = seen.is_some_and(|record| record.alias.as_ref() == Some(target));
                refuse(!there, "Route 53 deletes only what is given exactly")?;
                self.write_record(hosted_zone_id, None);
            }
            Action::AuthorizeIngress { security_group_id, source, port, description } => {
                assert!(description.starts_with("espalier:"), "{description}");
                let is_home = *security_group_id == self.group;
                let home = self.estate.ingress.iter().chain(&self.estate.other_ingress).filter(|_| is_home);
                let others = self.estate.former_ingress.iter().filter(|(group, _)| group == security_group_id);
                let there = home.chain(others.map(|(_, rule)| rule)).any(|one| one.admits(source, *port));
                refuse(there, "InvalidPermission.Duplicate")?;
                let made = rule(self.id("sgr-"), source.clone(), *port);
                if is_home {
                    self.estate.ingress.push(made);
                } else {
                    self.estate.former_ingress.push((security_group_id.clone(), made));
                }
            }
            Action::RevokeIngress { rule_id, .. } => {
                let count = |it: &Self| it.estate.ingress.len() + it.estate.former_ingress.len();
                let before = count(self);
                assert!(!self.estate.other_ingress.iter().any(|rule| rule.rule_id == *rule_id), "not our rule");
                self.estate.ingress.retain(|rule| rule.rule_id != *rule_id);
                self.estate.former_ingress.retain(|(_, rule)| rule.rule_id != *rule_id);
                refuse(before == count(self), "no such rule")?;
            }
            other => panic!("{other:?} is not about the estate"),
        }
        Ok(())
    }

    /// Auto Scaling refuses an answer nobody waits for ("No active Lifecycle Action found").
    fn complete(&mut self, group: &str, hook: &str, id: &str) -> Answer {
        let ours = self.estate.hooks.iter().find(|one| one.group == group && one.name == hook && one.ours);
        let ours = ours.unwrap_or_else(|| panic!("hook {hook} is not ours")).clone();
        let is_registered = self.groups.iter().any(|one| one.of.targets.keys().any(|(target, _)| target == id));
        let instance = self.estate.instances.iter_mut().find(|one| one.id.as_str() == id);
        let instance = instance.ok_or("no such instance")?;
        let scaling = instance.scaling.as_mut().ok_or("not in a group")?;
        match (scaling.life, ours.is_for_launch) {
            (Life::ComingWaits, true) => {
                assert!(is_registered && !self.unseen.contains(id), "{id} in service before it serves");
                scaling.life = Life::InService;
            }
            (Life::GoingWaits, false) => {
                assert!(!is_registered, "{id} terminated before it is drained");
                scaling.life = Life::Going;
                instance.is_running = false;
                "terminated".clone_into(&mut instance.state);
            }
            (life, _) => return Err(format!("no active lifecycle action in {life:?}")),
        }
        Ok(())
    }

    fn tag(&mut self, arn: &str, tags: &Tags) -> Answer {
        let id = arn.trim_start_matches("arn:");
        let mut all = self
            .networks
            .iter_mut()
            .map(|one| (&one.id, &mut one.tags))
            .chain(self.vpcs.iter_mut().map(|one| (&one.id, &mut one.tags)))
            .chain(self.groups.iter_mut().map(|one| (&one.id, &mut one.tags)))
            .chain(self.services.iter_mut().map(|one| (&one.id, &mut one.tags)))
            .chain(self.listeners.iter_mut().map(|one| (&one.id, &mut one.tags)))
            .chain(self.associations.iter_mut().map(|one| (&one.id, &mut one.tags)));
        let (_, found) = all.find(|(one, _)| *one == id).ok_or("no such resource")?;
        assert!(is_some_ones(found), "{id} is not ours to tag");
        found.extend(tags.clone());
        Ok(())
    }

    /// The tags of a new resource, marked when its creation is to fail.
    fn fate(&mut self, tags: &Tags) -> Tags {
        let mut tags = tags.clone();
        if Self::is_bad(&mut self.bad_creations) {
            tags.insert("bad".into(), String::new());
        }
        tags
    }
}

fn is_some_ones(tags: &Tags) -> bool {
    tags.contains_key(tag::STACK)
}

/// What a target group of that type takes (1.4; API reference, `CreateTargetGroup`).
fn takes(kind: TargetKind, vpc: &VpcId, target: &TargetId, estate: &Estate) -> Answer {
    match (kind, target.address()) {
        (TargetKind::Instance, None) => {
            let known = estate.instances.iter().find(|one| one.id == *target);
            let fits = known.is_some_and(|one| one.is_running && one.vpc_id.as_ref() == Some(vpc));
            refuse(!fits, "1.4: an instance must be running and in the group's VPC")?;
            refuse(!known.is_some_and(|one| one.opted_in), "the owner has not opted in")
        }
        (TargetKind::Ipv4, Some(address @ IpAddr::V4(_))) | (TargetKind::Ipv6, Some(address @ IpAddr::V6(_))) => {
            let mut blocks = estate.subnets.iter().filter(|one| one.vpc_id == *vpc).flat_map(|one| &one.blocks);
            refuse(!blocks.any(|block| block.contains(address)), "1.4: not in the VPC's subnets")
        }
        (TargetKind::Instance | TargetKind::Ipv4 | TargetKind::Ipv6, _) => {
            Err(format!("API CreateTargetGroup: {target} is of another type than its group"))
        }
    }
}

fn refuse(when: bool, because: &str) -> Answer {
    if when { Err(because.to_owned()) } else { Ok(()) }
}

/// Finds what is to be changed; whatever is changed has to be ours.
fn find<'a, T>(things: &'a mut [Thing<T>], id: &str) -> Result<&'a mut Thing<T>, String> {
    let found = things.iter_mut().find(|thing| thing.id == id).ok_or_else(|| format!("{id} does not exist"))?;
    assert!(is_some_ones(&found.tags), "{id} is somebody else's");
    Ok(found)
}

/// Deleting is refused while something is on its way (1.6).
fn delete<T>(thing: &mut Thing<T>, is_bad: bool) -> Answer {
    match thing.status {
        Status::Creating | Status::Updating | Status::Deleting => Err(format!("1.6: {} is busy", thing.id)),
        Status::Active | Status::CreateFailed(_) | Status::UpdateFailed(_) | Status::DeleteFailed(_) => {
            thing.status = Status::Deleting;
            if is_bad {
                thing.tags.insert("bad".into(), String::new());
            }
            Ok(())
        }
    }
}
