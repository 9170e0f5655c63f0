//! The part of a spec that decides about certificates on targets.

use espalier_domain::rotation::policy::{FollowPolicy, Policy};
use espalier_domain::spec::Spec;

/// Picks it out.
pub(crate) fn of(spec: &Spec) -> Policy {
    Policy {
        stack: spec.stack.clone(),
        server_name: spec.service.domain_name.clone(),
        service_port: spec.service.port,
        target_port: spec.targets.port,
        dns_names: spec.certificate.dns_names.clone(),
        validity_hours: spec.certificate.validity_hours,
        renew_before_hours: spec.certificate.renew_before_hours,
        follow: spec.certificate.follow.as_ref().map(|follow| FollowPolicy {
            certificate: follow.certificate_arn.clone(),
            expiring_days: follow.expiring_days,
        }),
        canary: spec.rollout.canary,
        wave_size: spec.rollout.wave_size,
        failure_budget: spec.rollout.failure_budget,
        samples: spec.prober.samples,
        resolver: spec.prober.resolver,
    }
}
