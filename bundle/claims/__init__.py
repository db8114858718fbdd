"""The reference report's claims, judged by what is here."""
