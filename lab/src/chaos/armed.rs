//! A schedule that is in force: counts what passes, and says what to do to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{CallFault, EventFault, Fault, kill};
use crate::process::Processes;

/// How long an event waits to be overtaken; nothing may follow it.
const OVERTAKEN_WITHIN: Duration = Duration::from_secs(3);

/// The faults in force. Clones are the same one; the default never does anything.
#[derive(Debug, Clone, Default)]
pub struct Chaos {
    processes: Option<Processes>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Counts the schedules, so that what one set off does not reach into the next.
    round: u64,
    faults: Vec<Fault>,
    fired: BTreeSet<usize>,
    calls: u32,
    operations: BTreeMap<String, u32>,
    events: u32,
    /// Installers were killed since somebody asked.
    stumped: bool,
}

impl Chaos {
    /// Faults for the lab with these processes; none is in force yet.
    pub fn of(processes: Processes) -> Self {
        Self { processes: Some(processes), state: Arc::default() }
    }

    /// Puts faults in force and begins to count.
    pub fn arm(&self, faults: Vec<Fault>) {
        let mut state = self.state();
        *state = State { round: state.round + 1, faults, ..State::default() };
    }

    /// From now on the world is healthy. Says which faults were met.
    pub fn disarm(&self) -> Vec<Fault> {
        let mut state = self.state();
        let met = state.fired.iter().filter_map(|index| state.faults.get(*index).copied()).collect();
        *state = State { round: state.round + 1, ..State::default() };
        met
    }

    /// Whether every fault was met.
    pub fn is_spent(&self) -> bool {
        let state = self.state();
        state.fired.len() == state.faults.len()
    }

    /// How many calls of these operations came since the faults were put in force.
    pub fn counted(&self, operations: &[&str]) -> u32 {
        let state = self.state();
        operations.iter().filter_map(|operation| state.operations.get(*operation)).sum()
    }

    /// How many events were put on the bus since then.
    pub fn events(&self) -> u32 {
        self.state().events
    }

    /// A call passes: what happens to it. Sets off the kills that wait for it.
    pub fn on_call(&self, operation: &str) -> Option<CallFault> {
        let mut state = self.state();
        if state.faults.is_empty() {
            return None;
        }
        state.calls += 1;
        let calls = state.calls;
        let nth = state.operations.entry(operation.to_owned()).or_default();
        *nth += 1;
        let nth = *nth;
        let mut met = None;
        for (index, fault) in state.faults.clone().into_iter().enumerate() {
            let hit = match fault {
                Fault::Call { operation: of, first, last, what } => {
                    let hit = of == operation && (first..=last).contains(&nth) && met.is_none();
                    met = if hit { Some(what) } else { met };
                    hit
                }
                Fault::KillFunction { call, .. } => call == calls,
                Fault::KillInstaller { command, .. } => operation == "ssm.SendCommand" && command == nth,
                Fault::Event { .. } => false,
            };
            if hit {
                state.fired.insert(index);
                self.set_off(fault, state.round);
            }
        }
        met
    }

    /// An event is put on the bus: what happens to it, and its number.
    pub fn on_event(&self) -> (u32, Option<EventFault>) {
        let mut state = self.state();
        state.events += 1;
        let events = state.events;
        let found = state.faults.iter().enumerate().find_map(|(index, fault)| match fault {
            Fault::Event { first, last, what } if (*first..=*last).contains(&events) => Some((index, *what)),
            Fault::Event { .. } | Fault::Call { .. } | Fault::KillFunction { .. } | Fault::KillInstaller { .. } => None,
        });
        if let Some((index, _)) = found {
            state.fired.insert(index);
        }
        (events, found.map(|(_, what)| what))
    }

    /// Waits until another event was put after this one.
    pub async fn overtaken(&self, event: u32) {
        let deadline = tokio::time::Instant::now() + OVERTAKEN_WITHIN;
        while self.state().events == event && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Head start for the one that overtakes.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    /// Whether installers were killed since this was asked last.
    pub fn took_installers(&self) -> bool {
        std::mem::take(&mut self.state().stumped)
    }

    /// Kills the function process at the other end of a connection; anybody else lives.
    pub fn kill_caller(&self, peer: SocketAddr) {
        if let Some(processes) = &self.processes {
            kill::caller(processes, peer);
        }
    }

    fn set_off(&self, fault: Fault, round: u64) {
        let Some(processes) = self.processes.clone() else { return };
        let chaos = self.clone();
        let later = async move |chaos: &Self, after_ms: u64| {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            chaos.state().round == round
        };
        match fault {
            Fault::KillFunction { function, after_ms, .. } => {
                tokio::spawn(async move {
                    if later(&chaos, after_ms).await {
                        kill::function(&processes, function);
                    }
                });
            }
            Fault::KillInstaller { after_ms, .. } => {
                tokio::spawn(async move {
                    if later(&chaos, after_ms).await {
                        let killed = kill::installers(&processes) > 0;
                        chaos.state().stumped |= killed;
                    }
                });
            }
            Fault::Call { .. } | Fault::Event { .. } => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_met_by_their_ordinals_and_end() {
        let chaos = Chaos::default();
        assert_eq!(chaos.on_call("ssm.SendCommand"), None);
        let call = Fault::Call { operation: "ssm.SendCommand", first: 2, last: 3, what: CallFault::Twice };
        let event = Fault::Event { first: 1, last: 2, what: EventFault::Drop };
        chaos.arm(vec![call, event]);
        let met: Vec<_> = (0..4).map(|_| chaos.on_call("ssm.SendCommand")).collect();
        assert_eq!(met, [None, Some(CallFault::Twice), Some(CallFault::Twice), None]);
        assert_eq!(chaos.on_call("ssm.GetParameter"), None);
        assert_eq!(chaos.counted(&["ssm.SendCommand", "ssm.GetParameter", "ssm.PutParameter"]), 5);
        assert!(!chaos.is_spent());
        assert_eq!(chaos.on_event(), (1, Some(EventFault::Drop)));
        assert_eq!(chaos.on_event(), (2, Some(EventFault::Drop)));
        assert_eq!(chaos.on_event(), (3, None));
        assert_eq!(chaos.events(), 3);
        assert!(chaos.is_spent());
        assert_eq!(chaos.disarm(), [call, event]);
        assert_eq!(chaos.on_call("ssm.SendCommand"), None);
    }
}
