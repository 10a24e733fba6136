"""Operations that the gateway answers itself: no provider is asked, and the stages before and after are the same."""
