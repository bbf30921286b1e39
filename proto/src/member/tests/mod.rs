//! Membership machines against each other in virtual time, and against bytes from anywhere.

mod bytes;
mod mesh;
mod scenarios;
