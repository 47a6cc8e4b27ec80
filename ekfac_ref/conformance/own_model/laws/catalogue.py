"""Every law that is asked of layers of any size, in the order in which reports list them."""

from collections.abc import Mapping
from types import MappingProxyType

from ekfac_ref.conformance.own_model.laws.of_answers import ANSWER_LAWS
from ekfac_ref.conformance.own_model.laws.of_products import PRODUCT_LAWS
from ekfac_ref.conformance.own_model.laws.of_solutions import SOLUTION_LAWS
from ekfac_ref.conformance.own_model.laws.own_law import OwnLaw

OWN_LAWS: Mapping[str, OwnLaw] = MappingProxyType(
    {law.law.name: law for law in (*PRODUCT_LAWS, *ANSWER_LAWS, *SOLUTION_LAWS)}
)
