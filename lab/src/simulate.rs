//! `cargo lab simulate`: a fleet's life on a virtual clock, as often as somebody likes, also under a spec of their own.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use espalier_domain::rotation::policy::Policy;
use espalier_domain::spec::{self, AllowedDomains, SpecErrors};
use espalier_simulation::scale::{Assumptions, rotate};
use espalier_simulation::tally::Tally;
use espalier_simulation::{Fleet, Grief, Lives, NotSimulated, live_all};

/// The fleets of `--scale`: targets, and of how many stacks.
const FLEETS: [(usize, usize); 7] =
    [(10, 1), (1_000, 1), (1_000, 4), (3_000, 1), (10_000, 4), (100_000, 10), (100_000, 40)];

/// So much of a life that came to grief is told.
const TOLD: usize = 60;

/// What is simulated.
#[derive(Debug, Args)]
pub struct Simulate {
    /// How many lives, from the first seed on
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    seeds: u64,

    /// The first seed: a life is its seed
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    first: u64,

    /// How long each life is, in days
    #[arg(long, value_name = "DAYS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=3_650))]
    days: u32,

    /// The policy of this spec, in place of one that the seed draws
    #[arg(long, value_name = "FILE", requires = "allowed_domains")]
    spec: Option<PathBuf>,

    /// How many targets the spec's fleet has
    #[arg(long, value_name = "N", default_value_t = 6, requires = "spec")]
    targets: u32,

    /// The control plane's AllowedDomains, separated by commas
    #[arg(long, env = "ESPALIER_ALLOWED_DOMAINS", value_parser = AllowedDomains::parse)]
    allowed_domains: Option<AllowedDomains>,

    /// In place of lives: one rotation of 10, 1,000, 3,000, 10,000 and 100,000 targets, in up to forty stacks, with AWS's published
    /// quotas as hard limits
    #[arg(long, conflicts_with_all = ["spec", "first", "days"])]
    pub scale: bool,

    /// With --scale: how many percent of a stack's targets may be under way at once (`rollout.wavePercent`)
    #[arg(long, value_name = "PERCENT", default_value_t = 100, requires = "scale",
          value_parser = clap::value_parser!(u32).range(1..=100))]
    wave_percent: u32,
}

/// Why nothing was simulated.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no spec.
    #[error("{} is no spec: {}", path.display(), listed(.mistakes))]
    Spec {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        mistakes: SpecErrors,
    },
    /// It is one that the simulation does not know.
    #[error("{}", path.display())]
    Unknown {
        /// Which.
        path: PathBuf,
        /// What of it.
        #[source]
        source: NotSimulated,
    },
}

fn listed(mistakes: &SpecErrors) -> String {
    mistakes.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What was met in lives that ended well.
    pub tally: Tally,
    /// The first life that did not.
    pub grief: Option<Grief>,
    count: u64,
    days: u32,
    seconds: f64,
}

impl Simulate {
    /// Lives the lives, on every core.
    ///
    /// # Errors
    /// The spec cannot be read, or not be simulated.
    pub fn run(&self) -> Result<Outcome, SimulateError> {
        let fleet = self.fleet()?;
        let begun = Instant::now();
        let seeds = self.first..self.first.saturating_add(self.seeds);
        let Lives { tally, grief, count } = live_all(&fleet, seeds, self.days, 1);
        let grief = grief.into_iter().next();
        Ok(Outcome { tally, grief, count, days: self.days, seconds: begun.elapsed().as_secs_f64() })
    }

    /// Rotates the large fleets, and tells each as soon as it is done; whether every read succeeded.
    pub fn rotate_at_scale(&self, mut tell: impl FnMut(&str)) -> bool {
        let assumptions = Assumptions::default();
        tell(&assumptions.to_string());
        let failed = |(targets, stacks): (usize, usize)| {
            let scale = rotate(targets, stacks, self.wave_percent, assumptions);
            tell(&scale.to_string());
            scale.failed
        };
        FLEETS.map(failed).iter().all(|failed| *failed == 0)
    }

    fn fleet(&self) -> Result<Fleet, SimulateError> {
        let (Some(path), Some(allowed)) = (&self.spec, &self.allowed_domains) else { return Ok(Fleet::Drawn) };
        let policy = read(path, allowed)?;
        Fleet::given(policy, self.targets).map_err(|source| SimulateError::Unknown { path: path.clone(), source })
    }
}

fn read(path: &Path, allowed: &AllowedDomains) -> Result<Policy, SimulateError> {
    let text = fs::read_to_string(path).map_err(|source| SimulateError::File { path: path.to_owned(), source })?;
    let spec =
        spec::parse(&text, allowed).map_err(|mistakes| SimulateError::Spec { path: path.to_owned(), mistakes })?;
    Ok(Policy::from_spec(&spec, allowed))
}

impl Outcome {
    /// For a person.
    pub fn told(&self) -> String {
        let mut text = String::new();
        if let Some(grief) = &self.grief {
            let last = grief.story.len().saturating_sub(TOLD);
            for line in &grief.story[last..] {
                let _infallible = writeln!(text, "{line}");
            }
            let (seed, broken) = (grief.seed, &grief.broken);
            let _infallible = write!(
                text,
                "\n✗ seed {seed}: {}: {}\n  `--seeds 1 --first {seed}` with the same options lives it again",
                broken.promise, broken.what
            );
            return text;
        }
        let Tally { plans, leaves, commands, hours, troubles, .. } = &self.tally;
        let met: u32 = troubles.values().sum();
        let _infallible = write!(
            text,
            "✓ {} lives of {} days, {:.0} years in {:.1} s: {plans} plans, {leaves} leaves, {commands} commands\n  \
             {met} misfortunes of {} kinds, and no promise was broken",
            self.count,
            self.days,
            f64::from(u32::try_from(*hours).unwrap_or(u32::MAX)) / 8_766.0,
            self.seconds,
            troubles.len(),
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/recipe.json");

    fn simulate(spec: Option<&str>, targets: u32) -> Simulate {
        let allowed_domains = AllowedDomains::parse("example.com").ok();
        Simulate {
            seeds: 6,
            first: 1,
            days: 2,
            spec: spec.map(PathBuf::from),
            targets,
            allowed_domains,
            scale: false,
            wave_percent: 100,
        }
    }

    #[test]
    fn lives_are_counted_and_told() {
        for spec in [None, Some(RECIPE)] {
            let lives = simulate(spec, 4).run().unwrap();
            assert!(lives.grief.is_none() && lives.tally.plans > 0);
            assert!(lives.told().contains("6 lives of 2 days"), "{}", lives.told());
        }
    }

    #[test]
    fn what_cannot_be_simulated_is_refused_with_its_reason() {
        let chain = |error: SimulateError| {
            format!("{error} {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default())
        };
        assert!(chain(simulate(Some("nowhere.json"), 4).run().unwrap_err()).contains("cannot be read"));
        assert!(chain(simulate(Some(RECIPE), 0).run().unwrap_err()).contains("1 to 200"));
        let acm = RECIPE.replace("recipe.json", "acm.json");
        assert!(chain(simulate(Some(&acm), 4).run().unwrap_err()).contains("ACM"));
    }

    #[test]
    fn a_life_that_came_to_grief_says_how_to_live_it_again() {
        let broken = espalier_simulation::oracle::Broken { promise: "never backwards", what: "i-1".into() };
        let grief = Grief { seed: 7, broken, story: vec!["it began".into()] };
        let lives = Outcome { tally: Tally::default(), grief: Some(grief), count: 1, days: 8, seconds: 0.1 };
        let told = lives.told();
        assert!(told.contains("it began") && told.contains("--first 7"), "{told}");
    }
}
