//! The rotation planner against a simulated fleet: golden histories and seeded faults.

mod golden;
mod simulation;
mod world;
