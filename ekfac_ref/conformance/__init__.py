"""The conformance kit: laws, the oracle they judge by, and problems to ask them on."""
