"""The SelFee protocol as text: prompt, grammar, chain and revision policy. No torch here."""
