"""How programs use ``ocelot.client``, under trio and under asyncio; run by the tests."""
