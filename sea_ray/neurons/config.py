"""What is measured, which neurons belong to a language, how packs merge: plain values, importable without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from sea_ray.errors import ConfigError, nearest

SiteKind = Literal["ffn", "v", "q", "k"]
SITE_KINDS: tuple[SiteKind, ...] = get_args(SiteKind)
RELEASED_FFN_SHARE = 12000 / 14336
"""The released PLND code's top 12,000 FFN indices per layer, as a share of Mistral-7B's width."""
RELEASED_ATTENTION_SHARE = 2000 / 4096
"""Its top 2,000 attention indices per layer, as a share of Mistral-7B's width."""
QueryKeyMode = Literal["first_order", "exact"]
Method = Literal["plnd", "plnd_released", "lape", "random_matched", "random", "shared", "wrong_language"]
CONTROLS: tuple[Method, ...] = ("random_matched", "random", "wrong_language")
"""Methods that are made from the sets of plnd."""
NeuronControl = Literal["random_matched", "random", "wrong_language", "shared"]
"""Selection methods that are controls of plnd."""
MergeRule = Literal["add", "mean", "strongest", "refuse"]


def check_sites(path: str, sites: Sequence[str]) -> None:
    """Raise ConfigError unless `sites` names at least one kind of site and each only once.

    Args:
        path: dotted path of the key, for the message.
        sites: kinds of sites as configured.
    """
    if not sites:
        raise ConfigError(path, f"names no kind of site; give at least one of {', '.join(SITE_KINDS)}")
    for site in sites:
        if site not in SITE_KINDS:
            raise ConfigError(path, f"unknown kind of site {site!r}{nearest(site, SITE_KINDS)}")
    if len(set(sites)) < len(sites):
        raise ConfigError(path, f"names a kind of site twice: {', '.join(sites)}")


@dataclass(frozen=True, kw_only=True)
class DetectionConfig:
    """What is measured, on how much text."""

    sites: tuple[SiteKind, ...] = SITE_KINDS
    """Kinds of sites: ffn, v (with o columns), q, k."""
    query_key: QueryKeyMode = "first_order"
    """Importance of q and k rows: exact runs the softmax again for each row, so it takes d_head times as long as the
    attention itself; first_order is a closed form that ranks almost alike."""
    window_tokens: int = 128
    """Tokens of a window; Imp grows with it, so all languages share it."""
    windows_per_language: int = 64
    """Windows of each language, spread evenly over its text."""
    top_fracs: tuple[float, ...] = (0.01, 0.03, 0.1)
    """Shares of a kind's neurons in the whole model; counted is how often a neuron is among a window's strongest such
    share."""

    def __post_init__(self) -> None:
        """Check ranges."""
        check_sites("sites", self.sites)
        if self.window_tokens < 2:
            raise ConfigError(
                "window_tokens", f"{self.window_tokens} is too short to attend; at least 2 tokens are needed"
            )
        if self.windows_per_language < 2:
            raise ConfigError(
                "windows_per_language", f"{self.windows_per_language} is below 2 (one even, one odd window)"
            )
        if not self.top_fracs or not all(0 < frac <= 1 for frac in self.top_fracs):
            raise ConfigError("top_fracs", f"{self.top_fracs} must name shares above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """Which neurons belong to a language."""

    method: Method = "plnd"
    """plnd: importance (arXiv 2402.18815); plnd_released: what its released code computes, for comparison (reads
    minus_min_languages, no threshold and no budget); lape: activation entropy (arXiv 2402.16438), ffn only;
    random_matched: as many as plnd in each layer and site; random: as many in each kind of site, any layer; shared: the
    strongest in the language where they are weakest, the same set for all; wrong_language: the plnd set of the language
    with which a language shares least."""
    sites: tuple[SiteKind, ...] = SITE_KINDS
    """Kinds of sites: ffn, v, q, k; each has a ranking and a budget of its own, since their scores have different
    units."""
    top_frac: float = 0.02
    """Budget: share of a kind's neurons that one language gets (lape: share of lowest entropies); 0: none, all that are
    active."""
    top_k: int = 0
    """Budget as a number of neurons of each kind; 0: top_frac decides."""
    budget_per: Literal["site", "layer"] = "site"
    """site: the budget is of a kind's neurons, all layers together; layer: of those of each layer."""
    threshold: float = 0.0
    """eps: a neuron is active in a window if Imp >= eps; 0: no threshold. Units of Imp, so it suits `sites` of one
    kind."""
    hit_frac: float = 0.0
    """A neuron is active in a window if it is among the strongest such share of its kind; one of detection.top_fracs, in
    place of a threshold; 0: not asked."""
    tau: float = 0.95
    """Share of a language's windows in which a neuron must be active; 1 is the paper's rule, destroyed by one
    outlier."""
    specificity: Literal["rank", "minus"] = "rank"
    """rank: order by a language's score in excess of the strongest other language; minus: drop what is active in
    others too."""
    minus_min_languages: int = 1
    """minus: a neuron active in at least this many other languages is not specific; 1 is the strict rule."""
    lape_quantile: float = 0.95
    """lape: a neuron belongs to the languages whose activation probability is above this quantile of all
    probabilities."""
    max_share: float = 0.5
    """A set with more of a kind's neurons than this share is refused as nearly everything."""
    min_stability: float = 0.0
    """Least Jaccard index of the sets that the even and the odd windows select; 0: not asked. A control is judged by the
    sets that it is made from."""
    seed: int = 0
    """Of the random controls."""

    def __post_init__(self) -> None:
        """Check ranges."""
        check_sites("sites", self.sites)
        for name in ("top_frac", "hit_frac", "tau", "lape_quantile", "max_share", "min_stability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(name, f"{getattr(self, name)} is outside [0, 1]")
        if self.top_k < 0:
            raise ConfigError("top_k", f"{self.top_k} is negative; give a number of neurons, 0 for the share top_frac")
        if self.threshold < 0:
            raise ConfigError("threshold", f"{self.threshold} is negative; Imp is a norm, use 0 for no threshold")
        if self.threshold and self.hit_frac:
            raise ConfigError("hit_frac", f"{self.hit_frac} and threshold {self.threshold} are two rules of what is active; "
                              "set one of them to 0")
        budget = self.top_frac or self.top_k
        if not self.threshold and not self.hit_frac and not budget:
            raise ConfigError("top_frac", "0 without top_k, threshold and hit_frac selects everything; give a budget, a rule "
                              "of what is active, or both")
        if self.minus_min_languages < 1:
            raise ConfigError(
                "minus_min_languages", f"{self.minus_min_languages} is below 1, which would drop all neurons"
            )
        if self.method == "lape" and tuple(self.sites) != ("ffn",):
            raise ConfigError(
                "sites", f"lape counts open gates, which only ffn has, not {', '.join(self.sites)}: set sites to [ffn]"
            )
        if self.method in ("lape", "shared") and not budget:
            raise ConfigError("top_frac", f"0 is no budget; method {self.method} needs one, here or in top_k")
