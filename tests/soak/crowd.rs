//! Whether this machine had processors enough for all that the soak runs on it.
//!
//! Why it exists: two dozen nodes beside the signers and their database on a small machine are late, whatever Holdfast does.
//! What alerts say of late nodes and slow commits is then true, and cannot be told from a fault of Holdfast: it is listed, not
//! judged. Nothing else is judged more mildly for it.

use std::time::Instant;

/// Part of the time in which something waited for a processor, from which on the machine counts as full.
const FULL: f64 = 0.25;

/// Looks at the pressure on the processors (Linux, "PSI").
pub(crate) struct Crowd {
    begin: Instant,
    waited: f64,
}

impl Crowd {
    pub(crate) fn begin() -> Self {
        Self { begin: Instant::now(), waited: waited() }
    }

    /// Prints it; whether the machine was full.
    pub(crate) fn judge(&self) -> bool {
        let part = (waited() - self.waited) / self.begin.elapsed().as_secs_f64().max(1.0);
        println!("  in {:.0} % of the time something waited for a processor of this machine", part * 100.0);
        part > FULL
    }
}

/// Seconds since the system's start in which at least one task waited; 0 where the kernel does not say.
fn waited() -> f64 {
    let text = std::fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    total(&text) as f64 / 1e6
}

/// Microseconds in the line of `some`.
fn total(text: &str) -> u64 {
    let some = text.lines().find(|line| line.starts_with("some "));
    let total = some.and_then(|line| line.split_whitespace().find_map(|word| word.strip_prefix("total=")));
    total.and_then(|number| number.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn the_kernels_form_is_read() {
        let text = "some avg10=44.98 avg60=48.19 avg300=49.90 total=34688426626\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(total(text), 34_688_426_626);
        assert_eq!(total(""), 0);
    }
}
