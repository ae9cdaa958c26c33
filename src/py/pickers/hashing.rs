//! Hashing pickers.

use super::{Attempts, Picks, attempts, choice, name_of, positive};
use crate::core::error::ConfigError;
use crate::core::hash::KeyHash;
use crate::core::pickers;
use crate::core::pickers::hashing::bounded::Bound as LoadBound;
use crate::core::pickers::hashing::haproxy::{Haproxy, Keys, Lookup};
use crate::core::pickers::hashing::modulo::NginxHash;
use crate::core::pickers::hashing::nginx_ring::NginxRing;
use crate::core::pickers::hashing::rendezvous::Variant;
use crate::core::pickers::hashing::ring::{PointHash, RingSize};
use crate::core::pickers::{Jump, Modulo, Ring};
use crate::py::arguments;
use crate::py::door::shown;
use crate::py::endpoint::Endpoint;
use crate::py::fastcall::{Door, PickerClass};
use crate::py::pool::Pool;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

const KEY_HASHES: [(&str, KeyHash); 7] = [
    ("sdbm", KeyHash::Sdbm),
    ("djb2", KeyHash::Djb2),
    ("wt6", KeyHash::Wt6),
    ("crc32", KeyHash::Crc32),
    ("xxh32", KeyHash::Xxh32),
    ("xxh64", KeyHash::Xxh64),
    ("xxh3", KeyHash::Xxh3),
];

const VARIANTS: [(&str, Variant); 2] = [("caddy", Variant::Caddy), ("traefik", Variant::Traefik)];

const POINT_HASHES: [(&str, PointHash); 2] = [("xxh64", PointHash::Xxh64), ("murmur2", PointHash::Murmur2)];

picker_class!(
    RingHash,
    pickers::Ring,
    "Consistent hashing on a ring.",
    |py, policy, kw| {
        match policy {
            Ring::Envoy(ring) => {
                kw.set_item("ring", "envoy")?;
                match ring.size {
                    RingSize::Points(points) => kw.set_item("points", points)?,
                    RingSize::Bounds { min, max } => {
                        kw.set_item("min_size", min)?;
                        kw.set_item("max_size", max)?;
                    }
                }
                kw.set_item("hash", name_of(ring.hash, &POINT_HASHES))?;
                bound_item(&kw, ring.bounded_load)?;
            }
            Ring::Nginx(_) => kw.set_item("ring", "nginx")?,
            Ring::Haproxy(ring) => {
                kw.set_item("ring", "haproxy")?;
                haproxy_items(&kw, ring)?;
            }
        }
    },
    {
        #[new]
        #[pyo3(signature = (endpoints, /, *, ring="envoy", points=None, min_size=None, max_size=None, hash=None, avalanche=None, bounded_load=None, seed=None, clock=None))]
        #[allow(clippy::too_many_arguments)]
        fn new(
            endpoints: &Bound<'_, PyAny>,
            #[pyo3(from_py_with = arguments::ring)] ring: &str,
            points: Option<&Bound<'_, PyAny>>,
            min_size: Option<&Bound<'_, PyAny>>,
            max_size: Option<&Bound<'_, PyAny>>,
            #[pyo3(from_py_with = arguments::hash)] hash: Option<&str>,
            #[pyo3(from_py_with = arguments::avalanche)] avalanche: Option<bool>,
            #[pyo3(from_py_with = arguments::bounded_load)] bounded_load: Option<f64>,
            #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
            clock: Option<&Bound<'_, PyAny>>,
        ) -> PyResult<Self> {
            let sizes = [("points", points), ("min_size", min_size), ("max_size", max_size)];
            let sizes = sizes.map(|(field, value)| (field, value.filter(|v| !v.is_none())));
            let policy = match ring {
                "envoy" => {
                    only("avalanche", avalanche, &format!("ring={ring:?}"))?;
                    let hash = choice("hash", hash.unwrap_or("xxh64"), &POINT_HASHES)?;
                    let size = ring_size(sizes)?;
                    Ring::Envoy(pickers::RingHash { size, hash, bounded_load: bound(bounded_load)? }.check()?)
                }
                "nginx" | "haproxy" => {
                    if let Some((field, Some(value))) = sizes.into_iter().find(|(_, value)| value.is_some()) {
                        let allowed = format!("None for ring={ring:?}: its size follows from the weights");
                        return Err(ConfigError::new(field, shown(value), allowed).into());
                    }
                    if ring == "nginx" {
                        only("hash", hash, "ring=\"nginx\": it is CRC-32")?;
                        only("avalanche", avalanche, "ring=\"nginx\"")?;
                        only("bounded_load", bounded_load, "ring=\"nginx\"")?;
                        Ring::Nginx(NginxRing)
                    } else {
                        let lookup = Lookup::Ring { bounded_load: bound(bounded_load)? };
                        Ring::Haproxy(haproxy(hash, avalanche, lookup)?)
                    }
                }
                _ => {
                    let allowed = "\"envoy\", \"nginx\" or \"haproxy\" in this version";
                    return Err(ConfigError::new("ring", format!("{ring:?}"), allowed).into());
                }
            };
            let pool = Pool::from_argument(endpoints, seed, clock)?;
            Ok(RingHash { door: Door::new(endpoints.py(), pool, policy) })
        }
    }
);

type Sizes<'a, 'py> = [(&'static str, Option<&'a Bound<'py, PyAny>>); 3];

/// The size of Envoy's ring from `points`, `min_size` and `max_size`.
fn ring_size(sizes: Sizes<'_, '_>) -> PyResult<RingSize> {
    let [points, min, max] = sizes.map(|(field, value)| value.map(|v| positive(field, v)).transpose());
    Ok(match (points?, min?, max?) {
        (Some(points), min, max) if min.is_some() || max.is_some() => {
            let allowed = "None when min_size or max_size is given: they say how large the ring is";
            return Err(ConfigError::new("points", points, allowed).into());
        }
        (points, None, None) => RingSize::Points(points.unwrap_or(1024)),
        // Envoy's own defaults for the bound that is not given.
        (_, min, max) => {
            let max = max.unwrap_or(pickers::hashing::ring::MAX_RING);
            RingSize::Bounds { min: min.unwrap_or(1024.min(max)), max }
        }
    })
}

/// Refuses a value where it would have no effect.
fn only<T: std::fmt::Debug>(field: &str, value: Option<T>, with: &str) -> PyResult<()> {
    match value {
        Some(value) => Err(ConfigError::new(field, format!("{value:?}"), format!("None for {with}")).into()),
        None => Ok(()),
    }
}

fn bound(factor: Option<f64>) -> PyResult<Option<LoadBound>> {
    Ok(factor.map(LoadBound::new).transpose()?)
}

fn bound_item(kw: &Bound<'_, PyDict>, bound: Option<LoadBound>) -> PyResult<()> {
    bound.map_or(Ok(()), |bound| kw.set_item("bounded_load", bound.factor()))
}

/// HAProxy's `hash-type`: without a function it is sdbm, on a ring with the avalanche.
fn haproxy(hash: Option<&str>, avalanche: Option<bool>, lookup: Lookup) -> PyResult<Haproxy> {
    let function = choice("hash", hash.unwrap_or("sdbm"), &KEY_HASHES)?;
    // The converters xxh32, xxh64 and xxh3 make the key; the hash type beside them is the one without a function.
    let plain = hash.is_none() || matches!(function, KeyHash::Xxh32 | KeyHash::Xxh64 | KeyHash::Xxh3);
    let avalanche = avalanche.unwrap_or(plain && matches!(lookup, Lookup::Ring { .. }));
    Ok(Haproxy { keys: Keys::Bytes(function), avalanche, lookup })
}

fn haproxy_items(kw: &Bound<'_, PyDict>, policy: &Haproxy) -> PyResult<()> {
    if let Keys::Bytes(function) = policy.keys {
        kw.set_item("hash", name_of(function, &KEY_HASHES))?;
    }
    kw.set_item("avalanche", policy.avalanche)?;
    match policy.lookup {
        Lookup::Ring { bounded_load } => bound_item(kw, bounded_load),
        Lookup::Map => Ok(()),
    }
}

picker_class!(
    ModuloHash,
    pickers::Modulo,
    "A hash of the key modulo the sum of weights.",
    |py, policy, kw| {
        match policy {
            Modulo::Nginx(_) => kw.set_item("variant", "nginx")?,
            Modulo::Haproxy(map) => {
                kw.set_item("variant", "haproxy")?;
                haproxy_items(&kw, map)?;
            }
        }
    },
    {
        #[new]
        #[pyo3(signature = (endpoints, /, *, variant="nginx", hash=None, avalanche=None, seed=None, clock=None))]
        fn new(
            endpoints: &Bound<'_, PyAny>,
            #[pyo3(from_py_with = arguments::variant)] variant: &str,
            #[pyo3(from_py_with = arguments::hash)] hash: Option<&str>,
            #[pyo3(from_py_with = arguments::avalanche)] avalanche: Option<bool>,
            #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
            clock: Option<&Bound<'_, PyAny>>,
        ) -> PyResult<Self> {
            let policy = match variant {
                "nginx" => {
                    only("hash", hash, "variant=\"nginx\": it is CRC-32")?;
                    only("avalanche", avalanche, "variant=\"nginx\"")?;
                    Modulo::Nginx(NginxHash)
                }
                "haproxy" => Modulo::Haproxy(haproxy(hash, avalanche, Lookup::Map)?),
                _ => {
                    let allowed = "\"nginx\" or \"haproxy\"";
                    return Err(ConfigError::new("variant", format!("{variant:?}"), allowed).into());
                }
            };
            let pool = Pool::from_argument(endpoints, seed, clock)?;
            Ok(ModuloHash { door: Door::new(endpoints.py(), pool, policy) })
        }
    }
);

picker_class!(IpHash, pickers::IpHash, "nginx's hash of the client's address.", |py, _policy, kw| {}, {
    #[new]
    #[pyo3(signature = (endpoints, /, *, seed=None, clock=None))]
    fn new(
        endpoints: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
        clock: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let pool = Pool::from_argument(endpoints, seed, clock)?;
        Ok(IpHash { door: Door::new(endpoints.py(), pool, pickers::IpHash) })
    }
});

picker_class!(
    SourceHash,
    pickers::Haproxy,
    "HAProxy's hash of the client's address.",
    |py, policy, kw| {
        if matches!(policy.lookup, Lookup::Ring { .. }) {
            kw.set_item("ring", "haproxy")?;
        }
        haproxy_items(&kw, policy)?;
    },
    {
        #[new]
        #[pyo3(signature = (endpoints, /, *, ring=None, avalanche=None, bounded_load=None, seed=None, clock=None))]
        fn new(
            endpoints: &Bound<'_, PyAny>,
            #[pyo3(from_py_with = arguments::own_ring)] ring: Option<&str>,
            #[pyo3(from_py_with = arguments::avalanche)] avalanche: Option<bool>,
            #[pyo3(from_py_with = arguments::bounded_load)] bounded_load: Option<f64>,
            #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
            clock: Option<&Bound<'_, PyAny>>,
        ) -> PyResult<Self> {
            let lookup = match ring {
                None => {
                    only("bounded_load", bounded_load, "ring=None")?;
                    Lookup::Map
                }
                Some("haproxy") => Lookup::Ring { bounded_load: bound(bounded_load)? },
                Some(other) => {
                    let allowed = "\"haproxy\", or None for a map";
                    return Err(ConfigError::new("ring", format!("{other:?}"), allowed).into());
                }
            };
            let avalanche = avalanche.unwrap_or(matches!(lookup, Lookup::Ring { .. }));
            let pool = Pool::from_argument(endpoints, seed, clock)?;
            let policy = Haproxy { keys: Keys::Source, avalanche, lookup };
            Ok(SourceHash { door: Door::new(endpoints.py(), pool, policy) })
        }
    }
);

picker_class!(JumpHash, Jump, "Jump hash.", |py, _policy, kw| {}, {
    #[new]
    #[pyo3(signature = (endpoints, /, *, seed=None, clock=None))]
    fn new(
        endpoints: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
        clock: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let pool = Pool::from_argument(endpoints, seed, clock)?;
        Ok(JumpHash { door: Door::new(endpoints.py(), pool, Jump::Jump) })
    }
});

picker_class!(JumpBackHash, Jump, "JumpBackHash.", |py, _policy, kw| {}, {
    #[new]
    #[pyo3(signature = (endpoints, /, *, seed=None, clock=None))]
    fn new(
        endpoints: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
        clock: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let pool = Pool::from_argument(endpoints, seed, clock)?;
        Ok(JumpBackHash { door: Door::new(endpoints.py(), pool, Jump::JumpBack) })
    }
});

picker_class!(MementoHash, pickers::MementoHash, "MementoHash.", |py, _policy, kw| {}, {
    #[new]
    #[pyo3(signature = (endpoints, /, *, seed=None, clock=None))]
    fn new(
        endpoints: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
        clock: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let pool = Pool::from_argument(endpoints, seed, clock)?;
        Ok(MementoHash { door: Door::new(endpoints.py(), pool, pickers::MementoHash) })
    }
});

picker_class!(
    MultiProbeHash,
    pickers::MultiProbe,
    "Multi-probe consistent hashing.",
    |py, policy, kw| {
        kw.set_item("probes", policy.probes)?;
    },
    {
        #[new]
        #[pyo3(signature = (endpoints, /, *, probes=None, seed=None, clock=None))]
        fn new(
            endpoints: &Bound<'_, PyAny>,
            probes: Option<&Bound<'_, PyAny>>,
            #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
            clock: Option<&Bound<'_, PyAny>>,
        ) -> PyResult<Self> {
            let probes = probes.map_or(Ok(21), |v| positive("probes", v))?;
            let policy = pickers::MultiProbe { probes: u32::try_from(probes).unwrap_or(u32::MAX) }.check()?;
            let pool = Pool::from_argument(endpoints, seed, clock)?;
            Ok(MultiProbeHash { door: Door::new(endpoints.py(), pool, policy) })
        }
    }
);

picker_class!(
    Rendezvous,
    pickers::Rendezvous,
    "Rendezvous hashing.",
    |py, policy, kw| {
        match policy.variant {
            Variant::Mixed => {}
            variant => kw.set_item("variant", name_of(variant, &VARIANTS))?,
        }
        bound_item(&kw, policy.bounded_load)?;
    },
    {
        #[new]
        #[pyo3(signature = (endpoints, /, *, variant=None, bounded_load=None, seed=None, clock=None))]
        fn new(
            endpoints: &Bound<'_, PyAny>,
            #[pyo3(from_py_with = arguments::own_variant)] variant: Option<&str>,
            #[pyo3(from_py_with = arguments::bounded_load)] bounded_load: Option<f64>,
            #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
            clock: Option<&Bound<'_, PyAny>>,
        ) -> PyResult<Self> {
            let variant = variant.map_or(Ok(Variant::Mixed), |name| choice("variant", name, &VARIANTS))?;
            let pool = Pool::from_argument(endpoints, seed, clock)?;
            let policy = pickers::Rendezvous { variant, bounded_load: bound(bounded_load)? };
            Ok(Rendezvous { door: Door::new(endpoints.py(), pool, policy) })
        }
    }
);

picker_class!(
    Maglev,
    pickers::Maglev,
    "Maglev hashing.",
    |py, policy, kw| {
        kw.set_item("table_size", policy.table_size)?;
        bound_item(&kw, policy.bounded_load)?;
    },
    {
        #[new]
        #[pyo3(signature = (endpoints, /, *, table_size=65537, bounded_load=None, seed=None, clock=None))]
        fn new(
            endpoints: &Bound<'_, PyAny>,
            #[pyo3(from_py_with = arguments::table_size)] table_size: i64,
            #[pyo3(from_py_with = arguments::bounded_load)] bounded_load: Option<f64>,
            #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
            clock: Option<&Bound<'_, PyAny>>,
        ) -> PyResult<Self> {
            let table_size = u64::try_from(table_size).unwrap_or(0);
            let policy = pickers::Maglev { table_size, bounded_load: bound(bounded_load)? }.check()?;
            let pool = Pool::from_argument(endpoints, seed, clock)?;
            Ok(Maglev { door: Door::new(endpoints.py(), pool, policy) })
        }
    }
);

/// Adds the classes to the module.
pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    super::add::<RingHash>(m)?;
    super::add::<Maglev>(m)?;
    super::add::<ModuloHash>(m)?;
    super::add::<IpHash>(m)?;
    super::add::<SourceHash>(m)?;
    super::add::<Rendezvous>(m)?;
    super::add::<JumpHash>(m)?;
    super::add::<JumpBackHash>(m)?;
    super::add::<MementoHash>(m)?;
    super::add::<MultiProbeHash>(m)
}
