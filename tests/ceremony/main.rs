//! Key ceremonies and backups on the real binary: what is generated belongs to its mnemonic and its deposits verify;
//! what is exported never signs here again; what is restored signs nothing that conflicts with the past;
//! what several people must approve happens once they did, and not before; exits are what the networks take.

mod approvals;
mod backup;
mod deposit;
mod exits;
mod export;
mod generate;
mod on_postgres;
mod served;
mod terminal;
