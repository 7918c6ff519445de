"""Figures about a model: bits per byte, exams, arithmetic, translation, refusal and safety, each with n and interval."""
