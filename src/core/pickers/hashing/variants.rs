//! Classes whose option names one of several policies.

use super::super::{Allow, Choice, Context, Draws, Policy};
use super::haproxy::Haproxy;
use super::modulo::NginxHash;
use super::nginx_ring::NginxRing;
use super::ring::RingHash;
use crate::core::endpoints::{Member, View};
use crate::core::sync::Mode;

/// One enum of policies and one of their indexes; every call goes to the variant that both are of.
macro_rules! one_of {
    ($(#[$doc:meta])* $name:ident, $index:ident, $first:ident($quick:ty): $($variant:ident($policy:ty) = $text:literal),+) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $name {
            $(#[doc = $text] $variant($policy)),+
        }

        /// The index of whichever policy it is.
        pub enum $index<M: Mode> {
            $(#[doc = $text] $variant(<$policy as Policy>::Index<M>)),+
        }

        // The first variant is the default and inlined into the caller; the others, in there with it, would make it slow.
        impl $name {
            #[inline(never)]
            fn text_key_of_any(&self, text: &str) -> Option<u64> {
                match self {
                    $($name::$variant(policy) => policy.text_key(text)),+
                }
            }

            #[inline(never)]
            fn pick_of_any<M: Mode>(&self, index: &$index<M>, cx: &Context<'_>, key: u64) -> Option<Choice> {
                match (self, index) {
                    $(($name::$variant(policy), $index::$variant(index)) => policy.pick::<M>(index, cx, key),)+
                    _ => None,
                }
            }
        }

        impl Policy for $name {
            type Index<M: Mode> = $index<M>;
            const KEYED: bool = true;

            fn keys(&self) -> &'static str {
                match self {
                    $($name::$variant(policy) => policy.keys()),+
                }
            }

            fn plain_keys(&self) -> bool {
                match self {
                    $($name::$variant(policy) => policy.plain_keys()),+
                }
            }

            fn fill_keys<M: Mode>(
                &self,
                index: &$index<M>,
                cx: &Context<'_>,
                keys: &[u64],
                out: &mut [u32],
            ) -> usize {
                match (self, index) {
                    $(($name::$variant(policy), $index::$variant(index)) => {
                        policy.fill_keys::<M>(index, cx, keys, out)
                    })+
                    _ => 0,
                }
            }

            #[inline(always)]
            fn bytes_key(&self, bytes: &[u8]) -> Option<u64> {
                match self {
                    $($name::$variant(policy) => policy.bytes_key(bytes)),+
                }
            }

            #[inline(always)]
            fn text_key(&self, text: &str) -> Option<u64> {
                match self {
                    $name::$first(policy) => policy.text_key(text),
                    _ => self.text_key_of_any(text),
                }
            }

            #[inline(always)]
            fn whole_key(&self, number: u64) -> Option<u64> {
                match self {
                    $($name::$variant(policy) => policy.whole_key(number)),+
                }
            }

            #[inline(always)]
            fn ready_key(&self, hash: u64) -> Option<u64> {
                match self {
                    $($name::$variant(policy) => policy.ready_key(hash)),+
                }
            }

            fn no_key<M: Mode>(&self, draws: &Draws) -> u64 {
                match self {
                    $($name::$variant(policy) => policy.no_key::<M>(draws)),+
                }
            }

            fn build<M: Mode>(
                &self,
                view: &View,
                members: &[Member],
                before: &[&$index<M>],
                draws: &Draws,
            ) -> $index<M> {
                match self {
                    $($name::$variant(policy) => {
                        let before: Vec<&<$policy as Policy>::Index<M>> = before
                            .iter()
                            .filter_map(|index| match index {
                                $index::$variant(index) => Some(index),
                                _ => None,
                            })
                            .collect();
                        $index::$variant(policy.build::<M>(view, members, &before, draws))
                    }),+
                }
            }

            fn build_cost(&self, members: usize) -> u64 {
                match self {
                    $($name::$variant(policy) => policy.build_cost(members)),+
                }
            }

            #[inline(always)]
            fn pick<M: Mode>(&self, index: &$index<M>, cx: &Context<'_>, key: u64) -> Option<Choice> {
                match (self, index) {
                    ($name::$first(policy), $index::$first(index)) => policy.pick::<M>(index, cx, key),
                    _ => self.pick_of_any::<M>(index, cx, key),
                }
            }

            const QUICK: bool = <$quick as Policy>::QUICK;

            #[inline(always)]
            fn quick<M: Mode>(&self, index: &$index<M>, cx: &Context<'_>, key: u64) -> Option<Choice> {
                match (self, index) {
                    ($name::$first(policy), $index::$first(index)) => policy.quick::<M>(index, cx, key),
                    _ => None,
                }
            }

            fn go_on<M: Mode>(&self, index: &$index<M>, cx: &Context<'_>, key: u64) -> Option<Choice> {
                match (self, index) {
                    ($name::$first(policy), $index::$first(index)) => policy.go_on::<M>(index, cx, key),
                    _ => self.pick_of_any::<M>(index, cx, key),
                }
            }

            fn choose<M: Mode>(
                &self,
                index: &$index<M>,
                cx: &Context<'_>,
                key: u64,
                allow: Allow<'_>,
            ) -> Option<Choice> {
                match (self, index) {
                    $(($name::$variant(policy), $index::$variant(index)) => policy.choose::<M>(index, cx, key, allow),)+
                    _ => None,
                }
            }
        }
    };
}

one_of!(
    /// A hash ring, by whose rule it is laid out and read.
    Ring, RingIndex, Envoy(RingHash):
    Envoy(RingHash) = "Envoy's.",
    Nginx(NginxRing) = "nginx's.",
    Haproxy(Haproxy) = "HAProxy's."
);

one_of!(
    /// A hash modulo the sum of weights, by whose rule.
    Modulo, ModuloIndex, Nginx(NginxHash):
    Nginx(NginxHash) = "nginx's.",
    Haproxy(Haproxy) = "HAProxy's."
);
