//! What goes wrong, and what becomes of it.

use espalier_domain::acm::AcmStatus;
use espalier_domain::id::Generation;
use espalier_domain::verdict::Presented;
use time::Duration;

use crate::host::{Agent, Host, Ill, Pair, Server};
use crate::world::{Event, SERVER, World, acm};

macro_rules! troubles {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One kind of trouble.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Trouble { $($(#[$doc])* $name,)* }

        impl Trouble {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

troubles! {
    /// An event that never arrives.
    HintLost,
    /// An event that arrives twice.
    HintTwice,
    /// An event that arrives late, after others that were sent after it.
    HintLate,
    /// A sweep that does not take place.
    SweepMissed,
    /// The control plane is gone from a swap on, for up to four hours.
    Vanished,
    /// A call that is refused for being one too many.
    Throttled,
    /// A function that dies before it has written anything.
    DiedBefore,
    /// A function that dies between two of its writes.
    DiedBetween,
    /// A function that dies after its last write: its answer is lost.
    DiedAfter,
    /// Work that is done twice at once.
    DoneTwice,
    /// Work that is done once more, up to a minute later.
    DoneLate,
    /// What was seen is written down again, up to two minutes later.
    SeenLate,
    /// A command that was sent although the call ended in an error.
    SentUnclear,
    /// An execution that ends in the middle.
    ExecutionDied,
    /// A second execution of the same rotation.
    TwoAtOnce,
    /// The functions' clock is off by up to half a minute.
    ClockSkewed,
    /// The ledger does not answer.
    LedgerOut,
    /// Run Command does not answer.
    CommandsOut,
    /// Parameter Store does not answer: no leaf can be stored or fetched.
    ParametersOut,
    /// ACM does not answer.
    AcmOut,
    /// The prober does not work.
    ProberOut,
    /// The prober's clock is wrong.
    ProberClock,
    /// The service's name does not resolve, or to something else.
    NameBroken,
    /// The followed certificate was renewed.
    AcmRenewed,
    /// The followed certificate cannot be followed.
    AcmFailed,
    /// The spec asks for other names.
    NamesChanged,
    /// Another authority signs from now on.
    AuthorityAdded,
    /// The authority comes to its end, and nobody makes another one for a while.
    AuthorityEnding,
    /// No server takes the next leaf.
    LeafRejected,
    /// The calendar gets a freeze.
    Frozen,
    /// Somebody asks for a fresh look at everything.
    LookAsked,
    /// Somebody declares what was issued unsafe.
    Emergency,
    /// Somebody declares it once more.
    EmergencyAgain,
    /// The agent is gone, and Systems Manager says so.
    AgentGone,
    /// The agent is gone, and Systems Manager does not know.
    AgentDeaf,
    /// The installer takes minutes.
    AgentSlow,
    /// The instance goes away in the middle of an installation.
    HalfDone,
    /// The instance is stopped and started again.
    Stopped,
    /// Its address is not known.
    AddressLost,
    /// The server is down.
    ServerDown,
    /// The server speaks something else.
    ServerGarbled,
    /// The server takes nothing new.
    Reverts,
    /// The host cannot fetch.
    CannotFetch,
    /// Another installation always runs.
    AlwaysBusy,
    /// The installer claims what is not so.
    Lies,
    /// The installer's last line is no report.
    Babbles,
    /// The prober cannot reach it.
    Hidden,
    /// Its owner withdraws it in `host.conf`.
    NotInHostConf,
    /// Its owner takes the tag away.
    TagRemoved,
    /// The spec does not select it.
    NotSelected,
    /// Its clock is wrong.
    HostClock,
    /// A person put another certificate there.
    ReplacedByHand,
    /// A person installed the newest leaf by hand.
    InstalledByHand,
    /// An old disk was put back.
    OldImage,
    /// A person put the leaf there that is another target's own.
    MixedUp,
    /// The spec asks for leaves that are each target's own, or no longer.
    ScopeChanged,
    /// The spec asks for keys that are made on the targets, or no longer.
    CustodyChanged,
    /// The key that a host made for its next leaf is gone.
    KeyLost,
    /// A host's request for a certificate is not what it should be.
    RequestSpoilt,
}

impl Trouble {
    /// Kinds that last for some time, on a host or for all.
    pub(crate) const LASTING: &[Self] = &[
        Self::LedgerOut,
        Self::CommandsOut,
        Self::ParametersOut,
        Self::AcmOut,
        Self::ProberOut,
        Self::ProberClock,
        Self::ClockSkewed,
        Self::NameBroken,
        Self::AcmFailed,
        Self::AuthorityEnding,
        Self::LeafRejected,
        Self::AgentGone,
        Self::AgentDeaf,
        Self::AgentSlow,
        Self::Stopped,
        Self::AddressLost,
        Self::ServerDown,
        Self::ServerGarbled,
        Self::Reverts,
        Self::CannotFetch,
        Self::AlwaysBusy,
        Self::Lies,
        Self::Babbles,
        Self::Hidden,
        Self::NotInHostConf,
        Self::TagRemoved,
        Self::NotSelected,
        Self::HostClock,
    ];

    /// Kinds that happen once.
    pub(crate) const SUDDEN: &[Self] = &[
        Self::AcmRenewed,
        Self::NamesChanged,
        Self::AuthorityAdded,
        Self::Frozen,
        Self::LookAsked,
        Self::TwoAtOnce,
        Self::ReplacedByHand,
        Self::InstalledByHand,
        Self::OldImage,
    ];

    /// Whether nothing can be renewed, or proven to be, as long as it lasts.
    pub(crate) fn keeps_from_renewing(self) -> bool {
        matches!(
            self,
            Self::LedgerOut
                | Self::CommandsOut
                | Self::ParametersOut
                | Self::ProberOut
                | Self::ProberClock
                | Self::AuthorityEnding
                | Self::LeafRejected
        )
    }

    /// Whether it is one host's.
    fn is_a_hosts(self) -> bool {
        self >= Self::AgentGone
    }
}

/// Lets something begin. What lasts ends by itself.
pub(crate) fn strike(world: &mut World) {
    let lasting = world.dice.roll(3) > 0;
    let kinds = if lasting { Trouble::LASTING } else { Trouble::SUDDEN };
    let Some(trouble) = world.dice.pick(kinds).copied() else { return };
    let host = trouble.is_a_hosts().then(|| usize::try_from(world.dice.roll(world.size())).unwrap_or_default());
    // Only what is well can fall ill: so each trouble ends with its host as it was.
    if host.is_some_and(|host| world.hosts[host].troubles > 0) || host.is_none() && lasting && world.troubles > 0 {
        return;
    }
    world.tally.meet(trouble);
    world.tell(|| format!("{trouble:?} {}", host.map_or_else(String::new, |host| format!("on host {}", host + 1))));
    match host {
        Some(host) => {
            world.hosts[host].troubles += 1;
            befall(world, trouble, host);
        }
        None => {
            world.troubles += 1;
            happen(world, trouble);
            if lasting {
                world.current = Some(trouble);
            }
        }
    }
    let minutes = match trouble {
        Trouble::LedgerOut | Trouble::ClockSkewed => world.dice.between(1, 240),
        _ if !lasting => 0,
        _ => world.dice.between(5, 60 * 30),
    };
    world.after(Duration::minutes(i64::from(minutes)), Event::Ends { trouble, host });
}

/// For all.
fn happen(world: &mut World, trouble: Trouble) {
    let now = world.now;
    match trouble {
        Trouble::AcmRenewed => {
            world.renewals += 1;
            world.acm = acm(world.renewals, now + Duration::days(198));
        }
        Trouble::AcmFailed => world.acm.status = AcmStatus::Failed,
        Trouble::NamesChanged => world.change_names(),
        Trouble::AuthorityAdded => world.add_authority(),
        Trouble::AuthorityEnding => {
            let hours = i64::from(world.policy.validity_hours / 3);
            for record in &mut world.ledger.authorities {
                record.not_after = record.not_after.min(now + Duration::hours(hours));
            }
        }
        Trouble::Frozen => {
            let (from, hours) = (now + Duration::hours(i64::from(world.dice.roll(40))), world.dice.between(1, 60));
            world.freeze(from, from + Duration::hours(i64::from(hours)));
        }
        Trouble::LookAsked => world.ledger.look_since = Some(now),
        Trouble::TwoAtOnce => world.double(),
        Trouble::ClockSkewed => world.skew = Duration::seconds(i64::from(world.dice.roll(60)) - 30),
        Trouble::ProberClock => world.prober_skew = Duration::hours(i64::from(world.dice.roll(48)) - 24),
        Trouble::NameBroken => world.misled = world.dice.one_in(2),
        Trouble::LeafRejected => world.rejected = world.ledger.newest().map(|newest| newest.generation.next()),
        _ => {}
    }
    world.hint();
}

/// On one host.
fn befall(world: &mut World, trouble: Trouble, index: usize) {
    let now = world.now;
    // Where each target has its own leaf, nobody has what was not made for this one.
    let has = |generation: &Generation| {
        world.ledger.fingerprint(&world.hosts[index].id, *generation).is_some() && world.has_key(index, *generation)
    };
    let newest = world.ledger.newest().filter(|newest| has(&newest.generation)).cloned();
    let old = world.ledger.newest().map(|newest| Generation(newest.generation.0.saturating_sub(1))).filter(has);
    let far = i64::from(world.dice.roll(400));
    let second = world.dice.one_in(2);
    let host = &mut world.hosts[index];
    match trouble {
        Trouble::AgentGone => host.agent = Agent::Gone,
        Trouble::AgentDeaf => host.agent = Agent::Deaf,
        Trouble::AgentSlow => host.slow = true,
        Trouble::Stopped => host.stop(),
        Trouble::AddressLost => host.has_address = false,
        Trouble::ServerDown => host.server = Server::Down,
        Trouble::ServerGarbled => host.server = Server::Garbled,
        Trouble::Reverts => host.ill = Ill::Reverts,
        Trouble::CannotFetch => host.ill = Ill::CannotFetch,
        Trouble::AlwaysBusy => host.ill = Ill::Busy,
        Trouble::Lies => host.ill = Ill::Lies,
        Trouble::Babbles => host.ill = Ill::Babbles,
        Trouble::Hidden => host.hidden = true,
        Trouble::NotInHostConf => host.consents = false,
        Trouble::TagRemoved => host.tagged = false,
        Trouble::NotSelected => host.wanted = false,
        Trouble::HostClock => host.clock = Duration::hours(far - 200),
        Trouble::ReplacedByHand => host.serves = Some(Pair::Foreign(foreign(now, far, second))),
        Trouble::InstalledByHand => {
            if let Some(newest) =
                newest.filter(|newest| host.runs && host.installing.is_none() && newest.not_after > now)
            {
                host.swap(newest.generation);
                host.reload(newest.generation, true, None);
            }
        }
        Trouble::OldImage => {
            host.restore(old, now);
        }
        _ => {}
    }
    world.hint();
}

/// What a person puts in place of ours.
fn foreign(now: time::OffsetDateTime, hours: i64, self_signed: bool) -> Presented {
    let name = if hours % 3 == 0 { "other.example.com" } else { SERVER };
    Presented {
        names: vec![name.into()],
        not_before: now - Duration::hours(1) + Duration::hours(if hours % 5 == 0 { 9 } else { 0 }),
        not_after: now + Duration::hours(hours - 100),
        serial: "f0".into(),
        fingerprint: "f".repeat(64),
        chain: if self_signed { Err("self-signed".into()) } else { Ok(()) },
    }
}

/// What lasted is over.
pub(crate) fn relieve(world: &mut World, trouble: Trouble, host: Option<usize>) {
    let now = world.now;
    world.tell(|| format!("{trouble:?} is over"));
    match host {
        Some(index) => {
            let host: &mut Host = &mut world.hosts[index];
            host.troubles -= 1;
            host.well_since = now;
            host.heal(now);
            if host.launched_at == Some(now) {
                world.arrive(index);
            }
        }
        None => {
            world.troubles -= 1;
            if trouble.keeps_from_renewing() {
                world.well_since = now;
            }
            world.clear(trouble);
        }
    }
    world.hint();
}
