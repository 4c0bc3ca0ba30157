//! Key ceremonies and backups on the real binary: what is generated belongs to its mnemonic and its deposits verify;
//! what is exported never signs here again; what is restored signs nothing that conflicts with the past.

mod backup;
mod deposit;
mod export;
mod generate;
mod on_postgres;
mod terminal;
