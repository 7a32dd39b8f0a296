"""The assets and checks of every task and of scenes."""
