//! Everything that is wrong with a request, gathered before anything is refused.

use super::Refusal;

/// Collects field violations. The decoders (in `decode.rs` and its neighbours) give `None` for a
/// field that is wrong and note why; [`Violations::all`] then gives all values or one refusal.
///
/// Costs nothing while nothing is wrong.
#[derive(Debug, Default)]
pub struct Violations {
    found: Vec<(String, String)>,
    prefix: String,
}

impl Violations {
    /// Nothing is wrong yet.
    pub fn new() -> Violations {
        Violations::default()
    }

    /// Notes that `field` is wrong. The path is relative to the message being decoded.
    pub fn add(&mut self, field: &str, description: impl Into<String>) {
        let path = if self.prefix.is_empty() { field.to_owned() } else { self.path_within(field) };
        self.found.push((path, description.into()));
    }

    fn path_within(&self, field: &str) -> String {
        if field.is_empty() { self.prefix.clone() } else { format!("{}.{field}", self.prefix) }
    }

    /// Decodes the message in `field`: paths noted by `decode` are below it.
    pub fn within<T>(&mut self, field: &str, decode: impl FnOnce(&mut Violations) -> T) -> T {
        let inner = if self.prefix.is_empty() { field.to_owned() } else { self.path_within(field) };
        let outer = std::mem::replace(&mut self.prefix, inner);
        let value = decode(self);
        self.prefix = outer;
        value
    }

    /// Decodes the item at `index` of the repeated `field`.
    pub fn item<T>(
        &mut self,
        field: &str,
        index: usize,
        decode: impl FnOnce(&mut Violations) -> T,
    ) -> T {
        self.within(&format!("{field}[{index}]"), decode)
    }

    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Refuses when anything is wrong.
    pub fn check(self) -> Result<(), Refusal> {
        if self.found.is_empty() { Ok(()) } else { Err(Refusal::invalid(self.found)) }
    }

    /// Every value, or one refusal with everything that is wrong.
    pub fn all<V: All>(self, values: V) -> Result<V::Values, Refusal> {
        self.check()?;
        Ok(values.unwrapped().expect("a decoder that gives no value notes a violation"))
    }
}

/// A tuple of decoded fields, for [`Violations::all`].
pub trait All {
    /// The same tuple without the `Option`s.
    type Values;

    /// The values, when none is missing.
    fn unwrapped(self) -> Option<Self::Values>;
}

macro_rules! all_of {
    ($($name:ident),+) => {
        impl<$($name),+> All for ($(Option<$name>,)+) {
            type Values = ($($name,)+);

            #[allow(non_snake_case, reason = "each value is named as its type")]
            fn unwrapped(self) -> Option<Self::Values> {
                let ($($name,)+) = self;
                Some(($($name?,)+))
            }
        }
    };
}

all_of!(A);
all_of!(A, B);
all_of!(A, B, C);
all_of!(A, B, C, D);
all_of!(A, B, C, D, E);
all_of!(A, B, C, D, E, F);
all_of!(A, B, C, D, E, F, G);
all_of!(A, B, C, D, E, F, G, H);
all_of!(A, B, C, D, E, F, G, H, I);
all_of!(A, B, C, D, E, F, G, H, I, J);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_wrong_is_told_at_once_with_its_path() {
        let mut v = Violations::new();
        v.add("name", "must not be empty");
        v.within("campaign", |v| {
            v.add("account", "is required");
            v.item("schedule", 2, |v| v.add("start", "is before the end"));
        });
        v.item("transfers", 0, |v| v.add("", "is a duplicate"));
        let refusal = v.check().unwrap_err();
        let paths: Vec<&str> = refusal.violations.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(
            paths,
            ["name", "campaign.account", "campaign.schedule[2].start", "transfers[0]"]
        );
    }

    #[test]
    fn values_come_out_together() {
        assert_eq!(Violations::new().all((Some(1), Some("a"))).unwrap(), (1, "a"));
        let mut v = Violations::new();
        v.add("b", "is required");
        assert!(v.all((Some(1), None::<u8>)).is_err());
    }
}
