//! Where generated keys come from: a mnemonic that is new or exists, or nothing but randomness.
//!
//! Guarantees: a new mnemonic is shown only on a terminal, once, and typed back in part before anything is made of it;
//! or it is in a private file that did not exist before. It is never a result, so it is in no pipe and no log.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use eth2_keystore::{AccountIndex, Mnemonic, WordCount};
use holdfast_enclave::Passphrase;
use holdfast_enclave::ceremony::{KeyTree, read_mnemonic};
use holdfast_enclave::durable::{Existing, write_private_file};
use holdfast_enclave::generate::Origin;
use holdfast_enclave::secret::FilePrivacy;
use holdfast_secret::SecretText;

use super::super::super::args::SourceArgs;
use super::super::super::{Exit, Failure, Output};
use super::deposits::Plan;

/// How many words of a new mnemonic are typed back.
const TYPED_BACK: usize = 4;
/// How often a word may be mistyped.
const TRIES: usize = 3;

/// Where keys come from.
pub(super) enum Source {
    /// Randomness alone.
    Random,
    /// A mnemonic.
    Tree {
        /// Its keys.
        tree: KeyTree,
        /// The place of the first.
        first: u32,
        /// Whether it existed before.
        existing: bool,
    },
}

/// What is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice<'a> {
    Random,
    Shown,
    Written(&'a Path),
    File(&'a Path),
    Typed,
}

fn choice(args: &SourceArgs, terminal: bool) -> Choice<'_> {
    match (args.random, &args.mnemonic_to, &args.mnemonic_file, args.mnemonic) {
        (_, Some(path), _, _) => Choice::Written(path),
        (_, _, Some(path), _) => Choice::File(path),
        (_, _, _, true) => Choice::Typed,
        (true, _, _, _) => Choice::Random,
        (false, None, None, false) => {
            let of_mnemonic = args.mnemonic_passphrase_file.is_some() || args.first_index != 0;
            if terminal || of_mnemonic { Choice::Shown } else { Choice::Random }
        }
    }
}

fn on_terminal(output: Output) -> bool {
    !output.is_json() && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Refuses what cannot work, before anything is opened.
///
/// # Errors
/// [`Failure`] (usage).
pub(super) fn check(args: &SourceArgs, deposits: Option<&Plan>, output: Output) -> Result<(), Failure> {
    let usage = |text: String| Err(Failure::message(Exit::Usage, text));
    match choice(args, on_terminal(output)) {
        Choice::Random if deposits.is_some_and(Plan::needs_mnemonic) => usage(
            "--bls-withdrawal needs a mnemonic: random keys have no withdrawal keys; give --mnemonic-to FILE or --mnemonic-file \
             FILE"
                .to_owned(),
        ),
        Choice::Random if deposits.is_some() && !args.random => usage(
            "without a terminal there is nobody to show a new mnemonic to, and keys that are deposited for must not be \
             lost: give --mnemonic-to FILE, --mnemonic-file FILE, or --random if that is meant"
                .to_owned(),
        ),
        Choice::Shown | Choice::Typed if !on_terminal(output) => usage(
            "a mnemonic is shown and asked for on a terminal only, and not with --json: give --mnemonic-to FILE for a new \
             one, or --mnemonic-file FILE for one that exists"
                .to_owned(),
        ),
        Choice::Written(path) if path.exists() => {
            usage(format!("--mnemonic-to: {} exists; name a new file", path.display()))
        }
        Choice::Random | Choice::Shown | Choice::Typed | Choice::Written(_) | Choice::File(_) => Ok(()),
    }
}

impl Source {
    /// Makes or reads what the keys come from; asks and shows what has to be.
    ///
    /// # Errors
    /// [`Failure`]; nothing was made then, except that the file of a new mnemonic may be there.
    pub(super) fn new(args: &SourceArgs, output: Output) -> Result<Self, Failure> {
        let passphrase = match &args.mnemonic_passphrase_file {
            Some(path) => Some(secret_file("--mnemonic-passphrase-file", path)?),
            None => None,
        };
        let (mnemonic, existing) = match choice(args, on_terminal(output)) {
            Choice::Random => return Ok(Self::Random),
            Choice::Shown => (shown()?, false),
            Choice::Written(path) => (written(path, output)?, false),
            Choice::File(path) => (read(&secret_file("--mnemonic-file", path)?)?, true),
            Choice::Typed => (typed()?, true),
        };
        let tree = KeyTree::new(&mnemonic, passphrase.as_ref()).map_err(|error| Failure::new(Exit::Usage, error))?;
        Ok(Self::Tree { tree, first: args.first_index, existing })
    }

    /// What its keys are made of.
    pub(super) fn origin(&self) -> Origin<'_> {
        match self {
            Self::Random => Origin::Random,
            Self::Tree { tree, first, .. } => Origin::Tree { tree, first: AccountIndex::new(*first) },
        }
    }

    /// Where in the tree a key is: the first of the ceremony, or so many after it. `None` without a tree.
    pub(super) fn account(&self, place: u32) -> Option<AccountIndex> {
        match self {
            Self::Random => None,
            Self::Tree { first, .. } => Some(AccountIndex::new(first.saturating_add(place))),
        }
    }

    /// For the journal.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Random => "random".to_owned(),
            Self::Tree { first, existing, .. } => {
                let which = if *existing { "an existing" } else { "a new" };
                format!("of {which} mnemonic from place {first}")
            }
        }
    }
}

fn secret_file(option: &str, path: &Path) -> Result<Passphrase, Failure> {
    Passphrase::read_file(path, FilePrivacy::Required).map_err(|error| {
        Failure::new(Exit::Usage, anyhow::Error::new(error).context(format!("{option} cannot be used")))
    })
}

fn read(text: &Passphrase) -> Result<Mnemonic, Failure> {
    read_mnemonic(text).map_err(|error| Failure::new(Exit::Usage, error))
}

fn typed() -> Result<Mnemonic, Failure> {
    let text = ask("Mnemonic (not shown while you type): ")?;
    read(&Passphrase::new(text.expose().to_owned()).map_err(|error| Failure::new(Exit::Usage, error))?)
}

fn generate() -> Result<Mnemonic, Failure> {
    Mnemonic::generate(WordCount::TwentyFour).map_err(|error| Failure::new(Exit::Unreachable, error))
}

fn written(path: &Path, output: Output) -> Result<Mnemonic, Failure> {
    let mnemonic = generate()?;
    let mut text = mnemonic.phrase();
    text.push('\n');
    write_private_file(path, text.as_bytes(), Existing::Refuse).map_err(|error| Failure::new(Exit::Refused, error))?;
    output.note(format!(
        "The new mnemonic is in {}. Whoever reads it has the keys: move it off this machine.",
        path.display()
    ));
    Ok(mnemonic)
}

/// Shows a new mnemonic once, and wipes the screen before words are typed back.
fn shown() -> Result<Mnemonic, Failure> {
    let mnemonic = generate()?;
    let lost =
        |error: std::io::Error| Failure::new(Exit::Refused, anyhow::Error::new(error).context("the terminal is gone"));
    {
        let mut terminal = std::io::stderr().lock();
        writeln!(terminal, "Your new mnemonic. It is shown once. Write it on paper: whoever has it has the keys.\n")
            .map_err(lost)?;
        for (place, word) in (1..).zip(mnemonic.words()) {
            let end = if place % 4 == 0 { "\n" } else { "" };
            write!(terminal, "{place:>3} {word:<10}{end}").map_err(lost)?;
        }
    }
    drop(ask("\nPress Enter when it is written down; the screen is wiped then. ")?);
    {
        let mut terminal = std::io::stderr().lock();
        // Wipes the screen and what can be scrolled back to.
        write!(terminal, "\x1b[H\x1b[2J\x1b[3J").and_then(|()| terminal.flush()).map_err(lost)?;
    }
    let mut random = [0; TYPED_BACK];
    getrandom::fill(&mut random).map_err(|error| Failure::new(Exit::Unreachable, error))?;
    confirm(&mnemonic, random, |place| ask(&format!("To be sure, type word {place} (not shown): ")))?;
    Ok(mnemonic)
}

fn ask(prompt: &str) -> Result<SecretText, Failure> {
    rpassword::prompt_password(prompt).map(SecretText::new).map_err(|error| {
        Failure::new(Exit::Refused, anyhow::Error::new(error).context("cannot read from the terminal"))
    })
}

/// Has a word of each part of the mnemonic typed back, which one `random` says.
fn confirm(
    mnemonic: &Mnemonic,
    random: [u8; TYPED_BACK],
    mut ask: impl FnMut(usize) -> Result<SecretText, Failure>,
) -> Result<(), Failure> {
    let words: Vec<&str> = mnemonic.words().collect();
    let part = words.len() / TYPED_BACK;
    for (number, random) in random.into_iter().enumerate() {
        let place = number.saturating_mul(part).saturating_add(usize::from(random).checked_rem(part).unwrap_or(0));
        let Some(word) = words.get(place) else { continue };
        let right = (0..TRIES).try_fold(false, |right, _| {
            Ok::<_, Failure>(right || ask(place.saturating_add(1))?.expose().trim().eq_ignore_ascii_case(word))
        })?;
        if !right {
            return Err(Failure::message(
                Exit::Refused,
                "that is not the word; nothing was made of this mnemonic, so destroy your note and start again",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Proved here: which source is used when, and that a word not typed back ends the ceremony.

    use super::*;

    fn args() -> SourceArgs {
        SourceArgs {
            random: false,
            mnemonic_to: None,
            mnemonic_file: None,
            mnemonic: false,
            mnemonic_passphrase_file: None,
            first_index: 0,
        }
    }

    #[test]
    fn a_terminal_gets_a_mnemonic_and_a_script_random_keys() {
        assert_eq!(choice(&args(), true), Choice::Shown);
        assert_eq!(choice(&args(), false), Choice::Random);
        assert_eq!(choice(&SourceArgs { random: true, ..args() }, true), Choice::Random);
        assert_eq!(choice(&SourceArgs { first_index: 3, ..args() }, false), Choice::Shown);
        assert_eq!(choice(&SourceArgs { mnemonic: true, ..args() }, false), Choice::Typed);
        let file = SourceArgs { mnemonic_file: Some("a".into()), ..args() };
        assert_eq!(choice(&file, true), Choice::File(Path::new("a")));
        let file = SourceArgs { mnemonic_to: Some("a".into()), ..args() };
        assert_eq!(choice(&file, true), Choice::Written(Path::new("a")));
    }

    #[test]
    fn words_are_typed_back_and_three_slips_end_it() {
        let mnemonic = Mnemonic::generate(WordCount::TwentyFour).unwrap();
        let words: Vec<&str> = mnemonic.words().collect();
        let mut asked = Vec::new();
        confirm(&mnemonic, [0, 5, 6, 255], |place| {
            asked.push(place);
            Ok(SecretText::new(format!(" {} ", words[place - 1].to_uppercase())))
        })
        .unwrap();
        assert_eq!(asked, [1, 12, 13, 22]);
        let mut tries = 0;
        let failed = confirm(&mnemonic, [0; TYPED_BACK], |_| {
            tries += 1;
            Ok(SecretText::new("nonsense".to_owned()))
        });
        assert_eq!((failed.map_err(|failure| failure.exit()), tries), (Err(Exit::Refused), TRIES));
        let mut tries = 0;
        confirm(&mnemonic, [0; TYPED_BACK], |place| {
            tries += 1;
            Ok(SecretText::new(if tries == 1 { String::new() } else { words[place - 1].to_owned() }))
        })
        .unwrap();
        assert_eq!(tries, TYPED_BACK + 1);
    }
}
