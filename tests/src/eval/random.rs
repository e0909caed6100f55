//! Random numbers that are the same everywhere: SplitMix64 (Steele, Lea, Flood 2014). A dependency
//! would do as well and might change its stream; the committed report must not.

/// A stream of numbers, given by its seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// A stream of its own for each list of parts.
    pub(crate) fn of(parts: &[u64]) -> Self {
        let mut random = Self(0x5eed);
        for part in parts {
            random.0 ^= part.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            random.0 = random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        // 53 bits fill the mantissa.
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Exponential with mean 1.
    pub(crate) fn gap(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// Normal with mean 0 and variance 1 (Box and Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.gap()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let draw = |parts: &[u64]| {
            let mut random = Random::of(parts);
            [random.unit(), random.unit(), random.unit()]
        };
        assert_eq!(draw(&[1, 2]), draw(&[1, 2]));
        assert_ne!(draw(&[1, 2]), draw(&[2, 1]));
    }

    #[test]
    fn means_and_variances_are_as_named() {
        let mut random = Random::of(&[7]);
        let n = 100_000;
        let (mut unit, mut gap, mut square) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            unit += random.unit();
            gap += random.gap();
            square += random.normal().powi(2);
        }
        let n = f64::from(n);
        assert!((unit / n - 0.5).abs() < 0.01);
        assert!((gap / n - 1.0).abs() < 0.02);
        assert!((square / n - 1.0).abs() < 0.03);
    }
}
