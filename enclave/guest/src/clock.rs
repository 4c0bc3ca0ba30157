//! The clock of an enclave: the security module's, which no host can set.
//!
//! Guarantees: it never goes back; it is set anew before keys get their fence and every half minute, so that it is off
//! by no more than what a processor's counter drifts in that time. Without a module it is the machine's clock, which
//! its host owns.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holdfast_domain::{Clock, UnixMillis};

use crate::machine::{Failed, say};
use crate::module::Module;

/// How often it is set.
const PERIOD: Duration = Duration::from_secs(30);

/// The clock.
pub(crate) struct EnclaveClock {
    module: Option<Arc<Module>>,
    dial: Mutex<Dial>,
}

/// A time and when it was that time, and the latest time ever told.
#[derive(Debug, Clone, Copy)]
struct Dial {
    base: UnixMillis,
    at: Instant,
    told: UnixMillis,
}

impl Dial {
    fn tell(&mut self, now: Instant) -> UnixMillis {
        let since = u64::try_from(now.saturating_duration_since(self.at).as_millis()).unwrap_or(u64::MAX);
        self.told = self.told.max(UnixMillis(self.base.0.saturating_add(since)));
        self.told
    }

    fn set(&mut self, base: UnixMillis, at: Instant) {
        self.base = base;
        self.at = at;
    }
}

impl EnclaveClock {
    /// Sets it for the first time, and has it set from now on.
    ///
    /// # Errors
    /// If there is a module and it does not tell the time.
    pub(crate) fn start(module: Option<Arc<Module>>) -> Result<Arc<Self>, Failed> {
        let at = Instant::now();
        let base = match &module {
            Some(module) => module.time()?,
            None => machine_time(),
        };
        let keeps = module.is_some();
        let clock = Arc::new(Self { module, dial: Mutex::new(Dial { base, at, told: base }) });
        if keeps {
            let kept = Arc::clone(&clock);
            let keep = move || loop {
                std::thread::sleep(PERIOD);
                if let Err(error) = kept.set() {
                    say(&format!("the clock goes on by itself: {error}"));
                }
            };
            let thread = std::thread::Builder::new().name("clock".to_owned()).spawn(keep);
            thread.map_err(|source| Failed::System { what: "start a thread", source })?;
        }
        Ok(clock)
    }

    /// Sets it by the module, if there is one.
    pub(crate) fn set(&self) -> Result<(), Failed> {
        let Some(module) = &self.module else { return Ok(()) };
        // Taken before the module is asked: rather ahead by the time of one question than behind.
        let at = Instant::now();
        let base = module.time()?;
        self.dial.lock().unwrap_or_else(PoisonError::into_inner).set(base, at);
        Ok(())
    }
}

impl Clock for EnclaveClock {
    fn now(&self) -> UnixMillis {
        // Nothing panics while it holds this lock, so a poisoned one is still consistent.
        self.dial.lock().unwrap_or_else(PoisonError::into_inner).tell(Instant::now())
    }
}

#[expect(clippy::disallowed_methods, reason = "the clock of a machine without a security module")]
fn machine_time() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    //! Proved here: time passes between settings, and is never told twice backwards.

    use super::*;

    #[test]
    fn time_passes_and_never_goes_back() {
        let begun = Instant::now();
        let after = |millis| begun + Duration::from_millis(millis);
        let mut dial = Dial { base: UnixMillis(1_000), at: begun, told: UnixMillis(1_000) };
        assert_eq!(dial.tell(after(250)), UnixMillis(1_250));
        dial.set(UnixMillis(5_000), after(300));
        assert_eq!(dial.tell(after(310)), UnixMillis(5_010));
        // Set back: it stands until the new time has caught up.
        dial.set(UnixMillis(4_000), after(400));
        assert_eq!(dial.tell(after(500)), UnixMillis(5_010));
        assert_eq!(dial.tell(after(2_000)), UnixMillis(5_600));
        assert_eq!(dial.tell(begun), UnixMillis(5_600));
    }

    #[test]
    fn without_a_module_it_is_the_machine_s() {
        let before = machine_time();
        let clock = EnclaveClock::start(None).unwrap();
        clock.set().unwrap();
        assert!(clock.now() >= before && clock.now() <= UnixMillis(machine_time().0 + 1_000));
    }
}
