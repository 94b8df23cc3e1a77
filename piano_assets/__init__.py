"""Find out, with evidence, what makes a model hear a piano performance as listeners do."""
